//! Calls between baresip phones that have no codec in common: what each hears is the other's tone, and nothing of its own.

use anyhow::Result;
use support::baresip::{Baresip, Setup};
use support::daemon::Daemon;
use support::lab::{Host, Lab};

const LOW: f64 = 440.0;
const HIGH: f64 = 1000.0;

/// The caller's side takes all, the callee's side has peers that speak PCMA alone.
fn trunks() -> String {
    let trunk = |name: &str, ours: &str, theirs: &str, media: &str| {
        format!(
            "[[trunk]]\nname = \"{name}\"\nlisten = \"udp:{ours}:5060\"\npeers = [{{ address = \"{theirs}:5060\" }}]\n\
             [trunk.media]\ntranscode = \"when_needed\"\n{media}\n"
        )
    };
    [
        trunk("operator", "10.81.1.1", "10.81.1.2", ""),
        trunk(
            "service",
            "10.81.2.1",
            "10.81.2.2",
            "codecs = [\"PCMA\", \"PCMU\", \"G722\", \"opus\", \"AMR\", \"AMR-WB\"]",
        ),
        "[[route]]\nprefix = \"\"\nfrom = \"operator\"\nto = \"service\"\n".to_owned(),
    ]
    .concat()
}

const MODULES: &str = "module g722.so\nmodule opus.so\nmodule amr.so\n";

/// A caller that speaks `codec` alone and a callee that speaks PCMA alone: the codecs of the record, once both have heard
/// the other's tone. `purity` is the least share of the power that has to lie at its frequency.
fn heard_both_ways(codec: &str, purity: f64) -> Result<(String, String)> {
    let lab = Lab::new()?;
    let daemon = Daemon::start_over_sockets(&lab, &trunks())?;
    let callee = Baresip::start(&lab, Setup { codec: "pcma", ..Setup::new(Host::Callee, "bob", HIGH) })?;
    let alice = Setup { codec, settings: MODULES, ..Setup::new(Host::Caller, "alice", LOW) };
    let caller = Baresip::start(&lab, Setup { dials: Some("sip:bob@10.81.1.1"), ..alice })?;
    let heard = [(callee.hears()?, LOW, HIGH), (caller.hears()?, HIGH, LOW)];
    caller.hang_up()?;
    for (heard, theirs, own) in heard {
        assert!(heard.power() > 1e6, "{codec}: silence: power {}", heard.power());
        assert!(heard.share(theirs) > purity, "{codec}: {} of the power at {theirs} Hz", heard.share(theirs));
        assert!(heard.share(own) < 0.01, "{codec}: {} of the power at {own} Hz: an echo", heard.share(own));
    }
    let [record] =
        <[_; 1]>::try_from(daemon.records(1)?).map_err(|records| anyhow::anyhow!("{records:?}"))?;
    assert_eq!(record.sip_status, 200);
    Ok((record.caller_codec.unwrap_or_default(), record.callee_codec.unwrap_or_default()))
}

// Statement 153.
#[test]
fn g722_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("g722/16000", 0.98)?, ("G722/8000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn pcmu_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("pcmu", 0.98)?, ("PCMU/8000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn opus_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("opus/48000/2", 0.95)?, ("opus/48000/2".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn amr_wide_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("amr-wb/16000", 0.9)?, ("AMR-WB/16000".into(), "PCMA/8000".into()));
    Ok(())
}

#[test]
fn amr_and_pcma() -> Result<()> {
    assert_eq!(heard_both_ways("amr/8000", 0.9)?, ("AMR/8000".into(), "PCMA/8000".into()));
    Ok(())
}
