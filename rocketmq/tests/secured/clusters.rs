//! The clusters with access control and TLS: `scripts/rocketmq up --secured`. They end with the test unless they ran before.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the script has printed: the addresses of source and target, and the files of the administrator's credentials.
pub(crate) struct Secured {
    script: PathBuf,
    folder: PathBuf,
    started: bool,
    pub(crate) addresses: [String; 2],
    pub(crate) credentials: [PathBuf; 2],
}

impl Secured {
    /// `None`, with a line that says so, unless `CROSSFADE_TEST_SECURED=1` asks for them: processes are started. `root`: of the repository;
    /// `scratch`: where state goes unless `CROSSFADE_CLUSTERS_DIR` is set.
    pub(crate) fn up(test: &str, root: &str, scratch: &str) -> Option<Secured> {
        let set = |name| std::env::var(name).is_ok_and(|value| value == "1");
        if !set("CROSSFADE_TEST_SECURED") {
            assert!(
                !set("CROSSFADE_TEST_NO_SKIP"),
                "{test}: nothing may be skipped"
            );
            println!(
                "skipped: {test}: CROSSFADE_TEST_SECURED=1 starts clusters with access control (java, mvn, openssl)"
            );
            return None;
        }
        let folder = std::env::var("CROSSFADE_CLUSTERS_DIR");
        let folder = folder.map_or_else(|_| Path::new(scratch).join("clusters"), PathBuf::from);
        let mut secured = Secured {
            script: Path::new(root).join("scripts/rocketmq"),
            folder,
            started: false,
            addresses: Default::default(),
            credentials: Default::default(),
        };
        let status = secured.command("status").stdout(Stdio::null()).status();
        secured.started = !status.unwrap().success();
        let output = secured
            .command("up")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let value = |name: &str| {
            let mut lines = printed.lines().filter_map(|line| line.split_once('='));
            lines.find(|(key, _)| *key == name).unwrap().1.to_owned()
        };
        secured.addresses = ["CROSSFADE_TEST_SOURCE", "CROSSFADE_TEST_TARGET"].map(value);
        let files = [
            "CROSSFADE_SOURCE_CREDENTIALS",
            "CROSSFADE_TARGET_CREDENTIALS",
        ];
        secured.credentials = files.map(|name| value(name).into());
        Some(secured)
    }

    /// A file of `tls/`: `ca.pem`, `other-ca.pem`, `client.pem`, `client.key`.
    #[allow(dead_code, reason = "not every test looks at certificates")]
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.credentials[0].with_file_name("tls").join(name)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command
            .args([verb, "--secured"])
            .env("CROSSFADE_CLUSTERS_DIR", &self.folder);
        command
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        if self.started {
            // The test has its verdict already.
            let _ = self.command("down").status();
        }
    }
}
