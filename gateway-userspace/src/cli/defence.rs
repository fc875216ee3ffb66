//! Who is denied: by command, and shown with or without a daemon.

use super::ask::Pins;
use super::{Daemon, Failure};
use clap::Args;
use gateway_userspace::admin::client::Client;
use gateway_userspace::admin::table;
use gateway_userspace::runtime::offline;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct Deny {
    /// An address, or a network such as 192.0.2.0/24
    #[arg(value_name = "ADDRESS|PREFIX", value_parser = network)]
    network: IpNet,
    /// For how long: a number with s, m, h or d
    #[arg(long = "for", value_name = "SPAN", default_value = "1h", value_parser = span)]
    span: Duration,
    /// Even if a trunk has peers or networks there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Debug, Args)]
pub(super) struct Allow {
    /// An address or a network; everything inside it is meant as well
    #[arg(value_name = "ADDRESS|PREFIX", value_parser = network)]
    network: IpNet,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

#[derive(Debug, Args)]
pub(super) struct Denied {
    #[command(flatten)]
    pins: Pins,
    #[command(flatten)]
    pub(super) daemon: Daemon,
}

impl Deny {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { network, span, force, daemon } = self;
        let done = daemon.client()?.deny(&network, Some(span), force).map_err(Failure::other)?;
        daemon.show(&done, |done| done.done.clone())
    }
}

impl Allow {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { network, daemon } = self;
        let done = daemon.client()?.allow(&network).map_err(Failure::other)?;
        daemon.show(&done, |done| done.done.clone())
    }
}

impl Denied {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { pins, daemon } = self;
        let list = daemon.or_offline(&pins, Client::denied, offline::denied)?;
        daemon.show(&list, table::denied)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "write an address such as 192.0.2.7, or a network such as 192.0.2.0/24".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number with s, m, h or d, as in 30m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if number == 0 {
        return Err("no time at all: `causeway allow` ends a denial".to_owned());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_a_unit_and_a_network_may_be_one_address() {
        let seconds = |text| span(text).map(|span| span.as_secs()).ok();
        assert_eq!(["90s", "30m", "1h", "2d"].map(seconds), [90, 1_800, 3_600, 172_800].map(Some));
        assert_eq!(["", "h", "1", "1w", "-1h", "0s", "1é"].map(seconds), [None; 7]);
        let name = |text| network(text).map(|network| network.to_string()).ok();
        assert_eq!(name("192.0.2.7").as_deref(), Some("192.0.2.7/32"));
        assert_eq!(name("2001:db8::/48").as_deref(), Some("2001:db8::/48"));
        assert_eq!(name("192.0.2.0/33"), None);
    }
}
