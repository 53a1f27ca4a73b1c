//! A client in a process of its own, which obeys lines; and what it used meanwhile.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::Result;

/// The word by which this program is told to be [ours](crate::ours).
pub(crate) const OBEY: &str = "--obey";
/// What the Java program is started with, beside a class path and a place for logs.
pub(crate) const JAVA_HEAP: &str = "-Xmx512m";
/// Longer than any order takes, but for the longest rounds of sends.
const LONGEST_ANSWER: Duration = Duration::from_secs(180);
/// `USER_HZ`: the unit of times in `/proc`, the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a program says of an order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Stored, or read.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) refused: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Of one send.
    pub(crate) allocations: f64,
    /// Of one send.
    pub(crate) allocated_bytes: f64,
}

/// An order, measured.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) answer: Answer,
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_mib: f64,
    pub(crate) peak_mib: f64,
}

impl Round {
    pub(crate) fn messages(&self) -> u64 {
        self.answer.messages
    }
}

/// A running one. It ends with its standard input.
pub(crate) struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Program {
    /// This same binary.
    pub(crate) fn ours(server: &str) -> Result<Program> {
        let mut command = Command::new(env::current_exe()?);
        Program::start(command.args([OBEY, server]))
    }

    /// The Java client of a version. Compiled before: a compiler in the process would be in its memory.
    pub(crate) fn java(server: &str, version: &str) -> Result<Program> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let jars = must(Command::new(root.join("scripts/rocketmq.d/jars")).arg(version))?;
        let jars = format!("{}/*", jars.trim());
        let classes = temporary.join(format!("bench-java-{version}"));
        must(
            Command::new("javac")
                .args(["-encoding", "UTF-8", "-cp", &jars, "-d"])
                .arg(&classes)
                .arg(root.join("tests/java/JavaBench.java")),
        )?;
        Program::start(
            Command::new("java")
                .arg(JAVA_HEAP)
                // Where the clients write logs.
                .arg(format!("-Duser.home={}", temporary.display()))
                .args(["-cp", &format!("{}:{jars}", classes.display())])
                .args(["JavaBench", server]),
        )
    }

    fn start(command: &mut Command) -> Result<Program> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let (sender, answers) = mpsc::channel();
        // Ends with the program.
        thread::spawn(move || {
            for line in output.lines().map_while(std::io::Result::ok) {
                // The Java client prints lines of its own, too.
                if line.starts_with('{') && sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Program {
            orders: child.stdin.take(),
            child,
            answers,
        })
    }

    pub(crate) fn ask(&mut self, order: &str) -> Result<Answer> {
        let orders = self.orders.as_mut().ok_or("the program was told to end")?;
        writeln!(orders, "{order}")?;
        orders.flush()?;
        let line = self.answers.recv_timeout(LONGEST_ANSWER);
        let line = line.map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                format!("no answer to {order:?} within {LONGEST_ANSWER:?}")
            }
            RecvTimeoutError::Disconnected => {
                format!("the program ended at {order:?}: see above for its last words")
            }
        })?;
        serde_json::from_str(&line)
            .map_err(|error| format!("{order:?} was answered by {line:?}: {error}").into())
    }

    /// [`Self::ask`], and what the process used meanwhile.
    pub(crate) fn measure(&mut self, order: &str) -> Result<Round> {
        // proc(5): the peak is counted anew.
        fs::write(self.proc("clear_refs"), "5")?;
        let before = self.cpu_seconds()?;
        let answer = self.ask(order)?;
        if answer.messages == 0 {
            return Err(format!("{order:?}: no message was stored or read").into());
        }
        Ok(Round {
            answer,
            cpu_seconds: self.cpu_seconds()? - before,
            resident_mib: self.memory_mib("VmRSS:")?,
            peak_mib: self.memory_mib("VmHWM:")?,
        })
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    /// User and system time of all threads, those that have ended among them.
    fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // proc(5): utime and stime are fields 14 and 15; the name before them, in brackets, may have blanks.
        let (_, fields) = stat
            .rsplit_once(") ")
            .ok_or("/proc/PID/stat is unreadable")?;
        let mut ticks = 0;
        for time in fields.split(' ').skip(11).take(2) {
            ticks += time.parse::<u32>()?;
        }
        Ok(f64::from(ticks) / TICKS_PER_SECOND)
    }

    fn memory_mib(&self, name: &str) -> Result<f64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib = kib.ok_or_else(|| format!("/proc/PID/status has no {name}"))?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.orders = None;
        let status = self.child.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("a program ended with {status}").into()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command printed.
fn must(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!("{name} failed: {}", output.status).into()),
    }
}
