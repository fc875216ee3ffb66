//! Processor time as the kernel charges it to processes.

use anyhow::{Context, Result, ensure};
use std::fs;

/// proc(5): processor time is counted in hundredths of a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process and all its descendants, in seconds.
///
/// # Errors
/// No such process.
pub(super) fn of_family(process: u32) -> Result<f64> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let entry = entry.context("/proc")?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that ended since the directory was read is no child that is still measured.
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (parent, ticks) = parent_and_ticks(&text).context("/proc/PID/stat")?;
        all.push((id, parent, ticks));
    }
    let mut family = vec![process];
    let mut total = 0;
    let mut found = 0;
    while let Some(member) = family.pop() {
        family.extend(all.iter().filter(|(_, parent, _)| *parent == member).map(|(id, ..)| *id));
        let own = all.iter().filter(|(id, ..)| *id == member).map(|(.., ticks)| ticks);
        for ticks in own {
            total += ticks;
            found += 1;
        }
    }
    ensure!(found > 0, "process {process} has ended");
    Ok(total as f64 / TICKS_PER_SECOND)
}

/// Parent of a process; its user and system time, with that of children that ended.
fn parent_and_ticks(stat: &str) -> Option<(u32, u64)> {
    // The name in parentheses may hold anything. Behind it: state, parent; 14 to 17 of proc(5) are 12th to 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| (parent, times.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_times_are_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) (b) S 3 7 7 0 -1 4194304 10 20 0 0 11 12 13 14 20 0 1 0 100";
        assert_eq!(parent_and_ticks(stat), Some((3, 50)));
        assert_eq!(parent_and_ticks("7 (a) S 3"), None);
    }

    #[test]
    fn a_process_has_a_family_and_one_that_never_was_has_none() {
        assert!(of_family(std::process::id()).is_ok());
        assert!(of_family(u32::MAX).is_err());
    }
}
