//! A call between two baresip phones, with the audio of both ends looked at.

use anyhow::Result;
use support::baresip::{Baresip, FROM, LENGTH, Setup};
use support::certificate::{Authority, Credentials, Key};
use support::daemon::{Daemon, TRUNKS};
use support::lab::{Host, Lab};
use support::tone::Recording;

#[test]
fn two_phones_hear_each_other_and_nothing_else() -> Result<()> {
    tones_both_ways("udp", "service")
}

#[test]
fn two_phones_hear_each_other_when_they_signal_over_tcp() -> Result<()> {
    tones_both_ways("tcp", "service-tcp")
}

// Statement 1.
#[test]
fn two_phones_hear_each_other_when_they_signal_over_tls() -> Result<()> {
    tones_both_ways("tls", "service-tls")
}

/// One phone says a low tone and the other a high one; what each hears is the other's.
fn tones_both_ways(transport: &'static str, trunk: &str) -> Result<()> {
    let lab = Lab::new()?;
    let secured = Secured::new(&lab)?;
    let daemon = Daemon::start(&lab, &format!("{TRUNKS}{}", secured.trunks()))?;
    let called = format!("sip:bob@10.81.1.1;transport={transport}");
    let (low, high) = (440.0, 1000.0);
    let settings = secured.phone_settings();
    let setup = |host, name, tone| Setup { settings: &settings, ..Setup::new(host, name, tone) };
    let callee = Baresip::start(&lab, setup(Host::Callee, "bob", high))?;
    let dials = Setup { dials: Some(&called), ..setup(Host::Caller, "alice", low) };
    let caller = Baresip::start(&lab, dials)?;
    callee.hears(low, high, 0.99)?;
    caller.hears(high, low, 0.99)?;
    // A phone that is asked to end hangs up.
    caller.hang_up()?;
    let [record] =
        <[_; 1]>::try_from(daemon.records(1)?).map_err(|records| anyhow::anyhow!("{records:?}"))?;
    assert_eq!((record.sip_status, record.caller.as_str(), record.called.as_str()), (200, "alice", "bob"));
    assert_eq!(
        (record.to_trunk.as_deref(), record.callee_codec.as_deref()),
        (Some(trunk), Some("PCMA/8000"))
    );
    assert_eq!((record.fast_path_share, record.from_caller.lost, record.from_callee.lost), (Some(1.0), 0, 0));
    // 20 ms a packet.
    let least = ((FROM + LENGTH) * 50.0) as u64;
    assert!(record.from_caller.packets >= least && record.from_callee.packets >= least, "{record:#?}");
    Ok(())
}

#[test]
fn the_listener_tells_a_tone_from_another_and_from_silence() {
    let sine = |index: f64| 8000.0 * (std::f64::consts::TAU * 440.0 * index / 8000.0).sin();
    let tone = Recording { rate: 8000, samples: (0..8000).map(|index| sine(f64::from(index))).collect() };
    assert!(tone.share(440.0) > 0.99);
    assert!(tone.share(1000.0) < 0.001);
    let silence = Recording { rate: 8000, samples: vec![0.0; 8000] };
    assert_eq!((silence.share(440.0), silence.power()), (0.0, 0.0));
}

/// Certificates of gateway and phones, by their addresses.
struct Secured {
    authority: Authority,
    gateway: Credentials,
    phones: Credentials,
}

impl Secured {
    fn new(lab: &Lab) -> Result<Self> {
        let authority = Authority::new(lab.directory(), "ca")?;
        Ok(Self {
            gateway: authority.issue("gateway", &["sbc.example.net", "10.81.1.1", "10.81.2.1"], Key::Rsa)?,
            phones: authority.issue("phones", &["10.81.1.2", "10.81.2.2"], Key::Rsa)?,
            authority,
        })
    }

    fn trunks(&self) -> String {
        let trunk = |name: &str, ours: &str, theirs: &str| {
            format!(
                "[[trunk]]\nname = \"{name}\"\nlisten = \"tls:{ours}\"\npeers = [{{ address = \"{theirs}\" }}]\n\
                 [trunk.tls]\n{}\nroots = [\"{}\"]\n",
                self.gateway.fields(),
                self.authority.root.display(),
            )
        };
        [
            trunk("operator-tls", "10.81.1.1", "10.81.1.2"),
            trunk("service-tls", "10.81.2.1", "10.81.2.2"),
            "[[route]]\nprefix = \"\"\nfrom = \"operator-tls\"\nto = \"service-tls\"\n".to_owned(),
        ]
        .concat()
    }

    fn phone_settings(&self) -> String {
        let (bundle, root) = (self.phones.bundle.display(), self.authority.root.display());
        format!("sip_certificate {bundle}\nsip_cafile {root}\n")
    }
}
