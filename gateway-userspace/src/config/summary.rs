//! What a configuration comes to, for `causeway check`.

use super::{Config, ConfigError};
use crate::net::tls::{Date, TrunkCertificate};
use comfy_table::{Table, presets};
use std::fmt::Write as _;

/// A configuration in a few figures.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    pub node: String,
    pub workers: usize,
    pub max_calls: usize,
    /// Pairs of media ports on each media address.
    pub port_pairs: usize,
    pub flows: u32,
    pub interfaces: Vec<String>,
    pub admin: String,
    pub cdr: String,
    pub trunks: Vec<TrunkSummary>,
    pub certificates: Vec<CertificateSummary>,
    pub warnings: Vec<ConfigError>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TrunkSummary {
    pub name: String,
    pub listen: String,
    pub media_address: String,
    pub peers: Vec<String>,
    pub allowed: Vec<String>,
}

/// The certificate of a trunk that uses TLS.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CertificateSummary {
    pub trunk: String,
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    /// The day, as in `2026-03-31`.
    pub expires: String,
    pub client_auth: bool,
}

impl CertificateSummary {
    fn of(own: &TrunkCertificate) -> Self {
        let certificate = &own.certificate;
        Self {
            trunk: own.trunk.to_string(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            names: certificate.names.iter().map(ToString::to_string).collect(),
            expires: Date(certificate.not_after).to_string(),
            client_auth: certificate.client_auth,
        }
    }
}

impl Summary {
    pub fn of(config: &Config) -> Self {
        let trunk = |trunk: &crate::policy::Trunk| TrunkSummary {
            name: trunk.name.clone(),
            listen: format!("{}:{}", trunk.transport.to_string().to_lowercase(), trunk.listen),
            media_address: trunk.media_address.to_string(),
            peers: trunk.peers.iter().map(|peer| peer.name.clone()).collect(),
            allowed: trunk.networks().map(ToString::to_string).collect(),
        };
        let ports = &config.media.ports;
        Self {
            node: config.node.name.to_string(),
            workers: config.node.workers,
            max_calls: config.node.max_calls,
            port_pairs: (usize::from(*ports.end()) + 1 - usize::from(*ports.start())) / 2,
            flows: config.dataplane.flows,
            interfaces: config.dataplane.interfaces.clone(),
            admin: config.admin.listen.to_string(),
            cdr: config.cdr.path.display().to_string(),
            trunks: config.policy.trunks().map(|(_, it)| trunk(it)).collect(),
            certificates: config.tls.certificates().iter().map(CertificateSummary::of).collect(),
            warnings: config.warnings.clone(),
        }
    }

    /// For people: `OK`, what it comes to, and what may not be meant.
    pub fn render(&self, file: &str) -> String {
        let interfaces =
            if self.interfaces.is_empty() { "none".to_owned() } else { self.interfaces.join(", ") };
        let mut text = format!("{file}: OK\n\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        line("node", &self.node);
        line("workers", &self.workers);
        line("calls", &format_args!("{} at most", self.max_calls));
        line("media ports", &format_args!("{} pairs on each media address", self.port_pairs));
        line("flows", &format_args!("{}, four a call at most", self.flows));
        line("interfaces", &interfaces);
        line("admin", &self.admin);
        line("records", &self.cdr);
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(["TRUNK", "LISTEN", "MEDIA", "PEERS", "ALLOWED"]);
        for trunk in &self.trunks {
            let allowed =
                if trunk.allowed.is_empty() { "its peers".to_owned() } else { trunk.allowed.join("\n") };
            let peers = if trunk.peers.is_empty() { "-".to_owned() } else { trunk.peers.join("\n") };
            table.add_row([&trunk.name, &trunk.listen, &trunk.media_address, &peers, &allowed]);
        }
        write_table(&mut text, &table);
        if !self.certificates.is_empty() {
            let mut table = Table::new();
            let header = ["TRUNK", "CERTIFICATE", "FOR", "UNTIL", "ISSUER"];
            table.load_preset(presets::NOTHING).set_header(header);
            for own in &self.certificates {
                table.add_row([&own.trunk, &own.subject, &own.names.join("\n"), &own.expires, &own.issuer]);
            }
            write_table(&mut text, &table);
        }
        for warning in &self.warnings {
            let line = warning.line.map(|line| format!(":{line}")).unwrap_or_default();
            let _ = writeln!(text, "\nwarning: {file}{line}: {}: {}", warning.field, warning.message);
            let _ = writeln!(text, "   fix: {}", warning.fix);
        }
        text
    }
}

fn write_table(text: &mut String, table: &Table) {
    text.push('\n');
    for line in table.lines() {
        let _ = writeln!(text, " {}", line.trim_end());
    }
}
