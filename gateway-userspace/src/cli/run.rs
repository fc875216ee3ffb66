//! `causeway run`: the daemon.

use super::Failure;
use clap::{Args, ValueEnum};
use gateway_userspace::runtime::boot::{self, RunError};
use gateway_userspace::runtime::supervisor::Outcome;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

/// What the log says unless CAUSEWAY_LOG says otherwise.
const LOG: &str = "info";

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Configuration of the daemon
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// How log lines look; CAUSEWAY_LOG sets what is logged, as in "info,gateway_userspace::sip=debug"
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let wanted = std::env::var("CAUSEWAY_LOG").unwrap_or_else(|_| LOG.to_owned());
        let filter = EnvFilter::try_new(&wanted)
            .map_err(|error| Failure::Other(format!("CAUSEWAY_LOG={wanted:?} is no log filter: {error}")))?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().init(),
        }
        match boot::run(&self.config) {
            Ok(Outcome::Drained) => tracing::info!("every call has ended: bye"),
            Ok(Outcome::Left | Outcome::Broken { .. }) => {}
            Err(RunError::Config(errors)) => return Err(Failure::Config(errors)),
            Err(error) => return Err(Failure::other(error)),
        }
        Ok(())
    }
}
