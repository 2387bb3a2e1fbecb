use std::time::Duration;

use runledger_testkit::eventually;
use tokio::process::Command;

/// How long a process may take to stand still.
const STILL: Duration = Duration::from_secs(10);

/// Sends a signal by name. When it is `STOP`, every thread of the process stands still on return: on a
/// busy machine those that already run go on a while, and could answer yet.
pub(crate) async fn send(pid: &str, signal: &str) {
    let sent = Command::new("kill")
        .args([format!("-{signal}"), pid.to_owned()])
        .status()
        .await;
    assert!(
        sent.is_ok_and(|status| status.success()),
        "cannot signal {pid}"
    );
    if signal == "STOP" {
        eventually(STILL, async || stands_still(pid)).await;
    }
}

fn stands_still(pid: &str) -> Result<(), String> {
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| error.to_string())?;
    for thread in threads {
        let stat = thread
            .map_err(|error| error.to_string())?
            .path()
            .join("stat");
        let stat = std::fs::read_to_string(stat).map_err(|error| error.to_string())?;
        // Behind the name, which is in brackets and may hold anything.
        let state = stat.rsplit(") ").next().unwrap_or_default();
        if !state.starts_with('T') {
            return Err(format!("{pid} goes on: {stat}"));
        }
    }
    Ok(())
}
