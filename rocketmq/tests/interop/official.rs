//! The official clients' programs: how they are built and run.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    event::{Event, Events},
    needs::skip,
};

/// An official client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `org.apache.rocketmq:rocketmq-client` of a version.
    Java(&'static str),
    /// `github.com/apache/rocketmq-client-go/v2`; `go/go.mod` has the version.
    Go,
}

impl Kind {
    /// The methods by which it compresses.
    pub(crate) fn compressions(self) -> &'static [&'static str] {
        match self {
            Kind::Java(_) => &["zlib", "lz4", "zstd"],
            Kind::Go => &["zlib"],
        }
    }

    /// Whether it finds messages by a tag that is not ASCII: the Go client hashes a tag's bytes (`utils.HashString`), brokers and all others hash its
    /// UTF-16 units.
    pub(crate) fn finds_tags_of_any_script(self) -> bool {
        matches!(self, Kind::Java(_))
    }
}

pub(crate) const ALL: [Kind; 3] = [Kind::Java("4.9.7"), Kind::Java("5.5.0"), Kind::Go];

/// A program that can be started.
pub(crate) struct Official {
    pub(crate) kind: Kind,
    program: &'static str,
    /// What it is started with.
    command: Command,
}

/// Room for a module download and a compiler on a slow machine.
const LONGEST_BUILD: Duration = Duration::from_secs(300);

/// Clients that leave groups and close connections take their time on a busy machine.
const LONGEST_END: Duration = Duration::from_secs(90);

impl Official {
    /// Compiles the program that sends and reads; says why it cannot be had otherwise.
    pub(crate) async fn build(kind: Kind, test: &str) -> Option<Official> {
        Self::build_program(kind, "Interop", test).await
    }

    /// The same for a member of groups that have others.
    pub(crate) async fn build_member(version: &'static str, test: &str) -> Option<Official> {
        Self::build_program(Kind::Java(version), "Member", test).await
    }

    async fn build_program(kind: Kind, program: &'static str, test: &str) -> Option<Official> {
        let built = match kind {
            Kind::Java(version) => java(version, program).await,
            Kind::Go => go().await,
        };
        match built {
            Ok(command) => Some(Official {
                kind,
                program,
                command,
            }),
            Err(why) => {
                skip(&format!("{test} with {}", name(kind)), &why);
                None
            }
        }
    }

    /// Fit for the name of a topic.
    pub(crate) fn name(&self) -> String {
        name(self.kind).replace('.', "_")
    }

    /// Starts it; it ends by itself after `bound`.
    pub(crate) fn start(
        mut self,
        bound: Duration,
        clusters: impl Iterator<Item = String>,
    ) -> Program {
        let errors = temporary().join(format!("{}-{}.stderr", self.program, self.name()));
        let mut child = self
            .command
            .arg(bound.as_secs().to_string())
            .args(clusters)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, events) = watch::channel(Vec::new());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut copy = fs::File::create(errors.with_extension("stdout")).unwrap();
        let reader = tokio::spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                writeln!(copy, "{line}").unwrap();
                if let Some(event) = Event::parse(&line) {
                    sender.send_modify(|all| all.push(event));
                }
            }
        });
        Program {
            name: self.name(),
            child,
            reader,
            events,
            errors,
        }
    }
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Java(version) => format!("java-{version}"),
        Kind::Go => "go".to_owned(),
    }
}

/// A program that runs; it is killed when this is dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    reader: JoinHandle<()>,
    events: watch::Receiver<Vec<Event>>,
    errors: PathBuf,
}

impl Program {
    pub(crate) fn events(&self, cluster: &str, deadline: Instant) -> Events {
        Events {
            cluster: cluster.to_owned(),
            all: self.events.clone(),
            deadline,
            errors: self.errors.clone(),
        }
    }

    /// It must end well once its standard input has ended.
    pub(crate) async fn end(mut self) {
        drop(self.child.stdin.take());
        let ended = timeout(LONGEST_END, self.child.wait()).await;
        let errors = fs::read_to_string(&self.errors).unwrap_or_default();
        let ended = ended.unwrap_or_else(|_| panic!("{} does not end: {errors}", self.name));
        assert!(ended.unwrap().success(), "{} failed: {errors}", self.name);
        self.reader.await.unwrap();
    }
}

fn temporary() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// The folder of a version's jars.
pub(crate) async fn jars(version: &str) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/rocketmq.d/jars");
    let folder = run(Command::new(script).arg(version)).await??;
    Ok(folder.trim().to_owned())
}

async fn java(version: &str, program: &str) -> Result<Command, String> {
    let classpath = format!("{}/*", jars(version).await?);
    // Of its own: both may be compiled at the same time.
    let classes = temporary().join(format!("interop-java-{version}-{program}"));
    let sources = ["Events", "Interop", "Member", "Reader", "Sender"];
    let sources = sources.map(|name| here().join(format!("java/{name}.java")));
    let mut compile = Command::new("javac");
    compile
        .args(["-encoding", "UTF-8", "-cp", &classpath, "-d"])
        .arg(&classes)
        .args(sources);
    must(run(&mut compile).await?);
    let mut command = Command::new("java");
    command
        .args(["-Xmx192m", "-XX:TieredStopAtLevel=1"])
        // Locks of queues that others still hold are asked for again after as long, instead of 20 s; and those of queues that go to others are given back.
        .arg("-Drocketmq.client.rebalance.waitInterval=1000")
        .arg("-Drocketmq.client.unlockDelayTimeMills=1000")
        // Where the clients write logs and offsets.
        .arg(format!("-Duser.home={}", temporary().display()))
        .arg("-cp")
        .arg(format!("{}:{classpath}", classes.display()))
        .arg(program);
    Ok(command)
}

async fn go() -> Result<Command, String> {
    let go = |words: &[&str]| {
        let mut command = Command::new("go");
        command.current_dir(here().join("go")).args(words);
        command.env("GOTOOLCHAIN", "local");
        command
    };
    let module = "github.com/apache/rocketmq-client-go/v2";
    run(&mut go(&["mod", "download", module])).await??;
    let program = temporary().join("interop-go");
    let mut build = go(&["build", "-buildvcs=false", "-o"]);
    must(run(build.arg(&program).arg(".")).await?);
    Ok(Command::new(program))
}

/// A compiler that fails has found something to mend: nothing to skip.
fn must(compiled: Result<String, String>) {
    if let Err(why) = compiled {
        panic!("{why}");
    }
}

/// What a program printed, or how it failed; outside, why there is none.
async fn run(command: &mut Command) -> Result<Result<String, String>, String> {
    let program = command.as_std().get_program().display().to_string();
    let output = timeout(LONGEST_BUILD, command.kill_on_drop(true).output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} takes longer than {LONGEST_BUILD:?}"));
    let output = output.map_err(|error| format!("no {program}: {error}"))?;
    Ok(match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    })
}
