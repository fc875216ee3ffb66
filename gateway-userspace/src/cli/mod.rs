//! The command line. Answers go to standard output, everything else to standard error.

mod ask;
mod check;
mod defence;
mod rules;
mod run;

use clap::{Args, Parser, Subcommand};
use gateway_userspace::base::id::CallId;
use gateway_userspace::config::ConfigErrors;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where the configuration is unless `--config` says otherwise.
const CONFIG: &str = "/etc/causeway/causeway.toml";

/// Voice gateway: SIP calls between a carrier's core and the services behind it, with media relayed in the
/// kernel by XDP.
#[derive(Debug, Parser)]
#[command(name = "causeway", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 failed; 2 the configuration or the command line is wrong.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until its calls have ended (first signal) or at once (second signal)
    Run(run::Run),
    /// Read a configuration and say what is wrong with it
    Check(check::Check),
    /// Try the rules that change messages
    Rules(rules::Rules),
    /// Show how the node is
    Status(Daemon),
    /// List calls in progress and those that ended last
    Calls(ask::Calls),
    /// Show one call with its SIP ladder and the quality of its media
    Call {
        /// Its id, as `causeway calls` lists it
        id: CallId,
        /// Draw its loss, jitter and MOS over time into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Take packets of one call down into a file for Wireshark, those that XDP relays too
    Capture(ask::Capture),
    /// List media flows with what they relayed; works without the daemon
    Flows(ask::Flows),
    /// Show what was not relayed or not answered, and why; works without the daemon
    Drops {
        #[command(flatten)]
        pins: ask::Pins,
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Take over trunks and routes from the configuration file; calls in progress keep what they have
    Reload(Daemon),
    /// List trunks and their peers: who serves, who is down, who is drained
    Trunks(Daemon),
    /// Refuse new calls from now on, of the node, a trunk or a peer; calls in progress finish
    Drain(ask::Drain),
    /// Take new calls again
    Undrain(ask::Drain),
    /// Give an address or a network silence on the SIP sockets
    Deny(defence::Deny),
    /// Take a denial back, by whomever it was
    Allow(defence::Allow),
    /// List who is denied, why and for how long; works without the daemon
    Denied(defence::Denied),
    /// End a call with BYE on both legs
    HangUp {
        /// Its id, as `causeway calls` lists it
        id: CallId,
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// Which daemon to ask, and how to print its answer.
#[derive(Debug, Args)]
struct Daemon {
    /// Admin address of the daemon [default: [admin] listen of the configuration, else 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<SocketAddr>,
    /// Configuration of the daemon, to find its admin address [default: /etc/causeway/causeway.toml if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn other(error: impl std::fmt::Display) -> Self {
        Self::Other(format!("{error:#}"))
    }

    fn code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(2),
            Self::Other(_) => ExitCode::FAILURE,
        }
    }
}

impl Cli {
    pub(crate) fn run(self) -> ExitCode {
        let json = self.command.json();
        let result = match self.command {
            Command::Run(run) => run.run(),
            Command::Check(check) => check.run(),
            Command::Rules(rules) => rules.run(),
            Command::Status(daemon) => daemon.status(),
            Command::Calls(calls) => calls.run(),
            Command::Call { id, svg, daemon } => daemon.call(id, svg.as_deref()),
            Command::Capture(capture) => capture.run(),
            Command::Flows(flows) => flows.run(),
            Command::Drops { pins, daemon } => daemon.drops(&pins),
            Command::Reload(daemon) => daemon.reload(),
            Command::Trunks(daemon) => daemon.trunks(),
            Command::Drain(drain) => drain.run(true),
            Command::Undrain(drain) => drain.run(false),
            Command::Deny(deny) => deny.run(),
            Command::Allow(allow) => allow.run(),
            Command::Denied(denied) => denied.run(),
            Command::HangUp { id, daemon } => daemon.hang_up(id),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                if json {
                    print(&match &failure {
                        Failure::Config(errors) => serde_json::json!(errors).to_string(),
                        Failure::Other(error) => serde_json::json!({ "error": error }).to_string(),
                    });
                } else {
                    let mark = if matches!(failure, Failure::Config(_)) { "" } else { "causeway: " };
                    eprintln!("{mark}{}", failure.to_string().trim_end());
                }
                failure.code()
            }
        }
    }
}

impl Command {
    fn json(&self) -> bool {
        match self {
            Self::Run(_) => false,
            Self::Check(check) => check.json,
            Self::Rules(rules) => rules.json(),
            Self::Calls(calls) => calls.daemon.json,
            Self::Flows(flows) => flows.daemon.json,
            Self::Capture(capture) => capture.daemon.json,
            Self::Deny(deny) => deny.daemon.json,
            Self::Allow(allow) => allow.daemon.json,
            Self::Denied(denied) => denied.daemon.json,
            Self::Status(daemon) | Self::Reload(daemon) | Self::Trunks(daemon) => daemon.json,
            Self::Drain(drain) | Self::Undrain(drain) => drain.daemon().json,
            Self::Call { daemon, .. } | Self::Drops { daemon, .. } | Self::HangUp { daemon, .. } => {
                daemon.json
            }
        }
    }
}

/// Prints and does not mind a reader that went away (`causeway calls | head`).
fn print(text: &str) {
    let text = text.trim_end_matches('\n');
    let _ = writeln!(io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_every_command_says_what_it_does() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            assert!(subcommand.get_about().is_some(), "{}", subcommand.get_name());
        }
        insta::assert_snapshot!(command.render_help());
    }
}
