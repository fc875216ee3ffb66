//! Kamailio as a proxy beside a plain phone, with TLS to the gateway or with rtpengine for the media; and as a registrar.

use crate::certificate::{Authority, Credentials};
use crate::daemon::SOON;
use crate::lab::{Host, Lab};
use crate::process::{Process, until};
use crate::rtpengine;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Where the phone beside it sends to.
const PLAIN_PORT: u16 = 5070;

/// A running Kamailio. Its processes end with the lab.
#[derive(Debug)]
pub struct Kamailio {
    process: Process,
}

impl Kamailio {
    /// On `host`, showing `own` and believing `authority` alone, in both roles.
    pub fn start(lab: &Lab, host: Host, authority: &Authority, own: &Credentials) -> Result<Self> {
        let name = format!("kamailio-{}", if host == Host::Caller { "caller" } else { "callee" });
        let directory = lab.directory().join(&name);
        fs::create_dir(&directory)?;
        let tls = directory.join("tls.cfg");
        fs::write(&tls, profiles(authority, own))?;
        let side = if host == Host::Caller { 1 } else { 2 };
        let script =
            SCRIPT.replace("SIDE", &side.to_string()).replace("PROFILES", &tls.display().to_string());
        Self::run(lab, host, (&name, &directory), &script, &[5061, PLAIN_PORT])
    }

    /// Beside the callee: what comes from the gateway goes to the phone, what comes from the phone goes to the gateway, and
    /// an rtpengine is in the middle of the media, which to the gateway speaks SRTP alone where `secured`.
    pub fn with_rtpengine(lab: &Lab, secured: bool) -> Result<Self> {
        let name = "kamailio-rtpengine";
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        let profile = if secured { "RTP/SAVP SDES DTLS=off" } else { "RTP/AVP" };
        let script = RELAYED.replace("CONTROL", rtpengine::CONTROL).replace("PROFILE", profile);
        Self::run(lab, Host::Callee, (name, &directory), &script, &[PLAIN_PORT])
    }

    /// A registrar beside the callee that asks for a password by SHA-256, and calls by it those who registered.
    pub fn registrar(lab: &Lab) -> Result<Self> {
        let name = "kamailio-registrar";
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        Self::run(lab, Host::Callee, (name, &directory), &REGISTRAR.replace("FLOWS", ""), &[PLAIN_PORT])
    }

    /// The same where gateways register flows (RFC 5626), by TCP or, with what it shows and believes, by TLS: it calls by
    /// their own connections, and wants to be in front of their calls (RFC 3608).
    pub fn registrar_of_flows(lab: &Lab, tls: Option<(&Authority, &Credentials)>) -> Result<Self> {
        let name = "kamailio-registrar";
        let directory = lab.directory().join(name);
        fs::create_dir(&directory)?;
        let mut script = REGISTRAR.replace("disable_tcp=yes\n", "");
        let flows = match tls {
            None => FLOWS.replace("TRANSPORT", "tcp").replace("MODULE", ""),
            Some((authority, own)) => {
                let file = directory.join("tls.cfg");
                fs::write(&file, profiles(authority, own))?;
                let module =
                    format!("loadmodule \"tls.so\"\nmodparam(\"tls\", \"config\", \"{}\")\n", file.display());
                FLOWS.replace("TRANSPORT", "tls").replace("MODULE", &format!("enable_tls=yes\n{module}"))
            }
        };
        script = script.replace("FLOWS", &flows);
        let service =
            "append_to_reply(\"Service-Route: <sip:10.81.2.2:5061;transport=TRANSPORT;lr>\\r\\n\");";
        let transport = if tls.is_some() { "tls" } else { "tcp" };
        let save =
            format!("fix_nated_register(); {}\n        save(", service.replace("TRANSPORT", transport));
        script = script.replace("save(", &save);
        Self::run(lab, Host::Callee, (name, &directory), &script, &[5061, PLAIN_PORT])
    }

    fn run(
        lab: &Lab,
        host: Host,
        (name, directory): (&str, &Path),
        script: &str,
        ports: &[u16],
    ) -> Result<Self> {
        let file = directory.join("kamailio.cfg");
        fs::write(&file, script)?;
        let mut command = lab.command(host, "kamailio");
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-Y"]).arg(directory).arg("-f").arg(&file);
        let kamailio = Self { process: lab.start(name, command)? };
        let listens = || {
            let heard: Result<Vec<bool>> = ports.iter().map(|port| kamailio.process.listens(*port)).collect();
            Ok(heard?.into_iter().all(|listens| listens).then_some(()))
        };
        until(SOON, listens).with_context(|| format!("Kamailio does not listen:\n{}", kamailio.log()))?;
        Ok(kamailio)
    }

    /// Start lines and connections of all that it passed on.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Address and port for the phone beside it.
    pub fn plain_address(host: Host) -> String {
        format!("{}:{PLAIN_PORT}", if host == Host::Caller { "10.81.1.2" } else { "10.81.2.2" })
    }
}

fn profiles(authority: &Authority, own: &Credentials) -> String {
    let profile = |role: &str| {
        format!(
            "[{role}:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n\
             private_key = {}\ncertificate = {}\nca_list = {}\nverify_depth = 3\n",
            own.key.display(),
            own.chain.display(),
            authority.root.display(),
        )
    };
    [profile("server"), profile("client")].concat()
}

/// What comes by UDP goes to the gateway, what comes by TLS goes to the phone, and both stay in between.
const SCRIPT: &str = r#"
debug=1
log_stderror=yes
children=2
tcp_children=2
enable_tls=yes
tcp_accept_no_cl=no
listen=udp:10.81.SIDE.2:5070
listen=tls:10.81.SIDE.2:5061
loadmodule "tls.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "xlog.so"
modparam("tls", "config", "PROFILES")
modparam("rr", "enable_double_rr", 1)

request_route {
    xlog("L_ERR", "LOOK $proto conid=$conid $rm $ru\n");
    if (search("sips:")) { xlog("L_ERR", "LOOK sips seen\n"); }
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (proto == TLS) {
        if (has_totag()) {
            loose_route();
        } else {
            if (!is_method("CANCEL")) { record_route(); }
            $du = "sip:10.81.SIDE.2:5060";
        }
    } else {
        if (!has_totag() && !is_method("CANCEL")) { record_route(); }
        $du = "sip:10.81.SIDE.1:5061;transport=tls";
    }
    t_on_reply("LOOK");
    if (!t_relay()) { sl_reply_error(); }
}

onreply_route[LOOK] {
    xlog("L_ERR", "LOOK $proto conid=$conid $rs $rm\n");
    if (search("sips:")) { xlog("L_ERR", "LOOK sips seen\n"); }
}
"#;

/// The far end of what rtpengine relays is the gateway or the phone, whichever did not send the request. An answer is in
/// the profile of its offer.
const RELAYED: &str = r#"
debug=1
log_stderror=yes
children=2
disable_tcp=yes
listen=udp:10.81.2.2:5070
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "rtpengine.so"
modparam("rtpengine", "rtpengine_sock", "udp:CONTROL")

request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (has_totag()) {
        loose_route();
    } else if (is_method("INVITE")) {
        record_route();
    }
    if ($si == "10.81.2.1") { $du = "sip:10.81.2.2:5060"; } else { $du = "sip:10.81.2.1:5060"; }
    if (is_method("BYE")) { rtpengine_delete(); }
    if (is_method("INVITE") && has_body("application/sdp")) {
        if ($si == "10.81.2.1") {
            rtpengine_offer("replace-origin ICE=remove RTP/AVP");
        } else {
            rtpengine_offer("replace-origin ICE=remove PROFILE");
        }
    }
    t_on_reply("ANSWERED");
    if (!t_relay()) { sl_reply_error(); }
}

onreply_route[ANSWERED] {
    if (has_body("application/sdp")) { rtpengine_answer("replace-origin ICE=remove"); }
}
"#;

/// Who registers is `0800`; calls to it go where it said that it is.
const REGISTRAR: &str = r#"
debug=1
log_stderror=yes
children=2
disable_tcp=yes
listen=udp:10.81.2.2:5070
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("auth", "algorithm", "SHA-256")
modparam("usrloc", "db_mode", 0)
FLOWS
modparam("registrar", "min_expires", 120)
modparam("registrar", "max_expires", 600)

request_route {
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("REGISTER")) {
        if (!pv_www_authenticate("core.example", "Circle of Life", "0")) {
            xlog("L_ERR", "LOOK asked\n");
            www_challenge("core.example", "1");
            exit;
        }
        xlog("L_ERR", "LOOK known as $au expires $hdr(Expires) at $ct\n");
        save("location");
        exit;
    }
    if (has_totag()) {
        loose_route();
    } else {
        if (is_method("INVITE")) { record_route(); }
        if ($rU == "0800" && src_port == 5060 && $si == "10.81.2.2") {
            if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
            xlog("L_ERR", "LOOK calls $ru by $du\n");
        } else if (is_method("INVITE")) {
            xlog("L_ERR", "LOOK called with Route $hdr(Route)\n");
            $du = "sip:10.81.2.2:5060";
        }
    }
    if (!t_relay()) { sl_reply_error(); }
}
"#;

/// What a registrar of flows has besides.
const FLOWS: &str = r#"
listen=TRANSPORT:10.81.2.2:5061
tcp_children=2
tcp_accept_no_cl=no
MODULE
loadmodule "nathelper.so"
modparam("nathelper|registrar", "received_avp", "$avp(RECEIVED)")
modparam("registrar", "outbound_mode", 1)
modparam("registrar", "flow_timer", 20)
modparam("rr", "enable_double_rr", 1)
"#;
