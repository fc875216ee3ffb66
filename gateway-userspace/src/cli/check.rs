//! `causeway check`.

use super::{CONFIG, Failure, print};
use clap::Args;
use gateway_userspace::config::{Config, EXAMPLE, Summary};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file to read
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Print a configuration to begin with, and read nothing
    #[arg(long)]
    example: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Check {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.example {
            print(EXAMPLE);
            return Ok(());
        }
        let summary = Summary::of(&Config::load(&self.config)?);
        print(&if self.json {
            serde_json::to_string(&summary).map_err(Failure::other)?
        } else {
            summary.render(&self.config.display().to_string())
        });
        Ok(())
    }
}
