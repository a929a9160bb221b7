//! CPU time and memory of other processes, from `/proc`.

use std::fs;

/// The CPU time that these processes have used, all threads, in seconds.
pub fn cpu(ids: &[u32]) -> f64 {
    /// `USER_HZ`, which is 100 on every current Linux.
    const TICKS: f64 = 100.0;
    let ticks: u64 = ids.iter().filter_map(|id| ticks(*id)).sum();
    ticks as f64 / TICKS
}

/// Their memory, each shared page counted once, in KiB.
pub fn memory(ids: &[u32]) -> u64 {
    let pss = |id: &u32| {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    ids.iter().filter_map(pss).sum()
}

/// Their resident memory, which is cheap to ask for, in KiB.
pub fn resident(ids: &[u32]) -> u64 {
    let resident = |id: &u32| {
        let text = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    // Pages of 4 KiB.
    ids.iter().filter_map(resident).sum::<u64>() * 4
}

/// User and system time.
fn ticks(id: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}
