//! One child process: killed, stopped and let go on by its own pid, and never left behind.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::failure::{Failure, Result, failed};

/// Where the `crossfade` program is.
#[derive(Clone, Debug)]
pub enum Program {
    /// In this very file, under another name: see `main.rs`.
    Own(PathBuf),
    /// Another build of it.
    Other(PathBuf),
}

impl Program {
    /// The program that is linked into this one.
    ///
    /// # Errors
    /// The system does not tell where this program is.
    pub fn own() -> Result<Self> {
        let path = std::env::current_exe();
        path.map(Program::Own)
            .map_err(|error| failed(format!("where this program is: {error}")))
    }

    /// A command line that begins with the program.
    #[must_use]
    pub fn command(&self) -> Command {
        match self {
            Program::Own(path) => {
                let mut command = std::process::Command::new(path);
                command.arg0("crossfade");
                Command::from(command)
            }
            Program::Other(path) => Command::new(path),
        }
    }
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
    /// What it prints, until the end of the process: a closed pipe would be an error for it.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts a child whose standard error goes to `log`. With `listen`, [`Self::line`] reads its standard output; else that goes to the log, too.
    ///
    /// # Errors
    /// The log cannot be written or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path, listen: bool) -> Result<Self> {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .map_err(|error| failed(format!("{}: {error}", log.display())))
        };
        let stdout = if listen {
            Stdio::piped()
        } else {
            Stdio::from(open()?)
        };
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::from(open()?))
            // Ctrl-C in a terminal reaches the orchestrator alone, which ends its children in order.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| failed(format!("{name} cannot be started: {error}")))?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| failed(format!("{name} has no pid")))?;
        let lines = child
            .stdout
            .take()
            .map(|stdout| BufReader::new(stdout).lines());
        Ok(Process {
            name: name.to_owned(),
            child,
            pid,
            log: log.to_owned(),
            lines,
        })
    }

    /// The next line of its standard output.
    ///
    /// # Errors
    /// It ended, or printed none within the time.
    ///
    /// # Cancellation
    /// A line that was read in part is read on by the next call.
    pub async fn line(&mut self, within: Duration) -> Result<String> {
        let name = &self.name;
        let Some(lines) = &mut self.lines else {
            return Err(failed(format!("{name} is not listened to")));
        };
        let line = match timeout(within, lines.next_line()).await {
            Ok(Ok(Some(line))) => return Ok(line),
            Ok(Ok(None)) => format!("{name} ended"),
            Ok(Err(error)) => format!("{name}: {error}"),
            Err(_) => format!("{name} has said nothing for {within:?}"),
        };
        Err(self.with_log(line))
    }

    /// SIGKILL, and waits until the process is gone. One that is gone already is no error.
    ///
    /// # Errors
    /// The system does not let it be killed or waited for.
    ///
    /// # Cancellation
    /// It may have been killed.
    pub async fn kill(&mut self) -> Result<()> {
        let killed = self.child.kill().await;
        killed.map_err(|error| failed(format!("{} cannot be killed: {error}", self.name)))
    }

    /// SIGSTOP: the process stands still and keeps its memory, files and connections.
    ///
    /// # Errors
    /// It is gone.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on where it stood.
    ///
    /// # Errors
    /// It is gone.
    pub fn go_on(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM. One that has ended already is no error.
    ///
    /// # Errors
    /// The signal could not be sent.
    pub fn ask_to_end(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        self.signal(Signal::TERM)
    }

    /// Waits for the end that it was asked for; SIGKILL when there is none `within` the time.
    ///
    /// # Errors
    /// It had to be killed, or did not end with success.
    ///
    /// # Cancellation
    /// It may be on its way out.
    pub async fn end(&mut self, within: Duration) -> Result<()> {
        let Ok(status) = timeout(within, self.child.wait()).await else {
            self.kill().await?;
            let what = format!("{} did not end within {within:?} of SIGTERM", self.name);
            return Err(self.with_log(what));
        };
        let status = status.map_err(|error| failed(format!("{}: {error}", self.name)))?;
        if status.success() {
            return Ok(());
        }
        Err(self.with_log(format!("{} ended with {}", self.name, how(status))))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait();
        ended.map_err(|error| failed(format!("{}: {error}", self.name)))
    }

    /// Adds the end of its log to what went wrong.
    #[must_use]
    pub fn with_log(&self, what: String) -> Failure {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n    ");
        failed(format!(
            "{what}; the end of {}:\n    {tail}",
            self.log.display()
        ))
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // Until it was waited for, its pid can belong to nobody else.
        if self.ended()?.is_some() {
            return Err(failed(format!("{} is gone", self.name)));
        }
        kill_process(self.pid, signal)
            .map_err(|error| failed(format!("{}: signal {signal:?}: {error}", self.name)))
    }
}

/// Runs a command to its end and answers what it printed.
///
/// # Errors
/// It did not end with success `within` the time: then with what it said on standard error.
///
/// # Cancellation
/// It runs on, unless the command says `kill_on_drop`.
pub async fn output(mut command: Command, within: Duration) -> Result<String> {
    let line = command
        .as_std()
        .get_args()
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    command.stdin(Stdio::null()).process_group(0);
    let output = match timeout(within, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(format!("{line}: {error}"))),
        Err(_) => return Err(failed(format!("{line}: no end within {within:?}"))),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!(
        "{line}: {}: {}",
        how(output.status),
        said.trim()
    )))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn stopped_process_stands_still_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.02; echo tick; done";
        let mut process = Process::start("ticker", shell(script), &log, true).unwrap();
        assert_eq!(process.line(Duration::from_secs(10)).await.unwrap(), "up");
        process.stop().unwrap();
        // What it had printed before it stood still.
        while process.line(Duration::from_millis(300)).await.is_ok() {}
        process.go_on().unwrap();
        assert_eq!(process.line(Duration::from_secs(10)).await.unwrap(), "tick");
        process.ask_to_end().unwrap();
        process.end(Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn stopped_process_can_be_killed_and_is_gone_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut process = Process::start("sleeper", shell("exec sleep 60"), &log, false).unwrap();
        process.stop().unwrap();
        process.kill().await.unwrap();
        assert_eq!(
            process.ended().unwrap().and_then(|status| status.signal()),
            Some(9)
        );
        assert!(process.stop().is_err());
        process.kill().await.unwrap();
    }

    #[tokio::test]
    async fn command_that_fails_says_what_it_printed() {
        let error = output(shell("echo why >&2; exit 3"), Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("exit 3: why"), "{error}");
        assert_eq!(
            output(shell("echo done"), Duration::from_secs(10))
                .await
                .unwrap(),
            "done\n"
        );
        assert!(
            output(shell("sleep 1"), Duration::from_millis(50))
                .await
                .is_err()
        );
    }
}
