//! `docker compose`, called as anybody would call it, and shown as it is called.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use anyhow::bail;
use kgb::gateway::PLACEHOLDER;

use super::files::Files;
use super::{Agent, Credential, KEY_FILE, LABEL, RECORDER_NAME, keeping};
use crate::cli::run::child;
use crate::config::Environment;

/// The project that holds the recorder, and the network that agents are on.
const RECORDER: &str = "claudette";
/// Images are built from the executable, which needs no compiler.
const BUILD_IMAGE: (&str, &str) = ("RUST_IMAGE", "debian:bookworm-slim");

/// The words that compose begins with.
pub(super) struct Compose {
    words: Vec<&'static str>,
    /// Whether the environment says already from what images are built.
    has_build_image: bool,
}

impl Compose {
    /// Version 2, a plugin of docker, or version 1, a program of its own.
    pub(super) fn find(env: &Environment) -> anyhow::Result<Self> {
        let answers = |program: &str, words: &[&str]| {
            child::locate(OsStr::new(program), env).is_ok()
                && std::process::Command::new(program).args(words).output().is_ok_and(|said| said.status.success())
        };
        let words = if answers("docker", &["compose", "version"]) {
            vec!["docker", "compose"]
        } else if answers("docker-compose", &["version"]) {
            vec!["docker-compose"]
        } else {
            bail!("neither docker compose nor docker-compose is here; install Docker (docs.docker.com/engine/install)");
        };
        Ok(Self { words, has_build_image: env.text(BUILD_IMAGE.0).is_some() })
    }

    /// Builds the images where they are not built, and starts the recorder where it does not run.
    pub(super) async fn start_recorder(&self, agent: &Agent, files: &Files) -> anyhow::Result<()> {
        files.put_executable()?;
        self.recorder(agent, files, &["build"]).await?;
        let mut words = vec!["up", "--detach", "--no-build", "kgb"];
        words.extend((!agent.sqlite).then_some("postgres"));
        self.recorder(agent, files, &words).await
    }

    /// Removes all containers of all agents and of the recorder. Volumes stay.
    pub(super) async fn stop_all(&self, agent: &Agent, files: &Files) -> anyhow::Result<()> {
        let asked = std::process::Command::new("docker")
            .args(["ps", "--all", "--filter", &format!("label={LABEL}"), "--format"])
            .arg(format!("{{{{.Label \"{LABEL}\"}}}}"))
            .output()?;
        if !asked.status.success() {
            bail!("docker does not answer: {}", String::from_utf8_lossy(&asked.stderr).trim());
        }
        let mut names: Vec<&str> =
            std::str::from_utf8(&asked.stdout)?.lines().filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names.into_iter().filter(|name| *name != RECORDER_NAME) {
            let words = self.words_of(&project_of(name), &[files.path("agent.yaml")], &["down"]);
            succeeds(run(&self.variables(agent, name), &words, &[]).await?)?;
        }
        self.recorder(agent, files, &["down"]).await
    }

    /// Lists what runs.
    pub(super) async fn status(&self) -> anyhow::Result<ExitCode> {
        let format = format!("table {{{{.Label \"{LABEL}\"}}}}\t{{{{.Names}}}}\t{{{{.Status}}}}");
        let words = ["docker", "ps", "--all", "--filter", &format!("label={LABEL}"), "--format", &format];
        let code = run(&[], &words.map(OsString::from), &[]).await?;
        eprintln!("iccm: the record is read by: docker exec {RECORDER}{}kgb{0}1 iccm conversations", self.separator());
        Ok(ExitCode::from(code))
    }

    /// What stands between the parts of a container's name.
    fn separator(&self) -> &'static str {
        if self.words.len() == 1 { "_" } else { "-" }
    }

    async fn recorder(&self, agent: &Agent, files: &Files, words: &[&str]) -> anyhow::Result<()> {
        let mut named = vec![files.path("compose.yaml")];
        named.extend(agent.credential.as_ref().map(|_| files.path("keyless.yaml")));
        named.extend(agent.sqlite.then(|| files.path("sqlite.yaml")));
        succeeds(run(&self.variables(agent, &agent.name), &self.words_of(RECORDER, &named, words), &[]).await?)
    }

    /// Something that must succeed, with the agent's project.
    pub(super) async fn agent(
        &self,
        agent: &Agent,
        files: &Files,
        words: &[&str],
        further: &[OsString],
    ) -> anyhow::Result<()> {
        succeeds(self.agent_status(agent, files, words, further).await?)
    }

    /// Something whose exit code is the answer, with the agent's project; the recorder is kept running meanwhile.
    pub(super) async fn at_work(
        &self,
        agent: &Agent,
        files: &Files,
        words: &[&str],
        further: &[OsString],
    ) -> anyhow::Result<ExitCode> {
        let work = self.agent_status(agent, files, words, further);
        Ok(ExitCode::from(keeping::recorder_during(work).await?))
    }

    /// Starts what of the recorder and of this agent is there and does not run, and waits until the one reaches the other.
    pub(super) async fn revive(&self, agent: &Agent, files: &Files) -> anyhow::Result<()> {
        let ended = [keeping::ended(RECORDER_NAME, None).await?, keeping::ended(&agent.name, None).await?].concat();
        if ended.is_empty() {
            return Ok(());
        }
        eprintln!("+ docker start {}", ended.join(" "));
        keeping::start(&ended).await?;
        self.agent(agent, files, &["exec", "-T", "claudette", "iccm", "ready", "--wait", "120", "http://kgb:8089"], &[])
            .await
    }

    async fn agent_status(
        &self,
        agent: &Agent,
        files: &Files,
        words: &[&str],
        further: &[OsString],
    ) -> anyhow::Result<u8> {
        let words = self.words_of(&project_of(&agent.name), &[files.path("agent.yaml")], words);
        run(&self.variables(agent, &agent.name), &words, further).await
    }

    fn words_of(&self, project: &str, files: &[std::path::PathBuf], words: &[&str]) -> Vec<OsString> {
        let mut all: Vec<OsString> = self.words.iter().map(OsString::from).collect();
        all.extend(["--project-name", project].map(OsString::from));
        for file in files {
            all.extend(["--file".into(), file.as_os_str().to_owned()]);
        }
        all.extend(words.iter().map(OsString::from));
        all
    }

    fn variables(&self, agent: &Agent, name: &str) -> Vec<(String, OsString)> {
        let (uid, gid) = agent.owner;
        let mut variables = vec![
            ("CLAUDETTE_NAME".to_owned(), name.into()),
            ("CLAUDETTE_PROJECT".to_owned(), agent.project.clone().into()),
            ("CLAUDETTE_UID".to_owned(), uid.to_string().into()),
            ("CLAUDETTE_GID".to_owned(), gid.to_string().into()),
        ];
        if let Some(Credential { file, is_token }) = &agent.credential {
            // The word stands where Claude Code looks for this kind of credential, and nothing where it looks for the other.
            let (key, token) = if *is_token { ("", PLACEHOLDER) } else { (PLACEHOLDER, "") };
            variables.push((KEY_FILE.to_owned(), file.clone().into()));
            variables.push(("ANTHROPIC_API_KEY".to_owned(), key.into()));
            variables.push(("CLAUDE_CODE_OAUTH_TOKEN".to_owned(), token.into()));
        }
        if !self.has_build_image {
            variables.push((BUILD_IMAGE.0.to_owned(), BUILD_IMAGE.1.into()));
        }
        variables
    }
}

fn project_of(name: &str) -> String {
    format!("{RECORDER}-{name}")
}

fn succeeds(code: u8) -> anyhow::Result<()> {
    if code == 0 { Ok(()) } else { bail!("that command failed with {code}; what it said stands above") }
}

/// Shows a command and runs it to its end, with this terminal and these signals.
async fn run(variables: &[(String, OsString)], words: &[OsString], further: &[OsString]) -> anyhow::Result<u8> {
    let Some((program, arguments)) = words.split_first() else { return Ok(0) };
    let arguments: Vec<OsString> = arguments.iter().chain(further).cloned().collect();
    let assignments = variables.iter().map(|(name, value)| format!("{name}={} ", quoted(value)));
    let shown: Vec<String> = std::iter::once(program).chain(&arguments).map(|word| quoted(word)).collect();
    eprintln!("+ {}{}", assignments.collect::<String>(), shown.join(" "));
    child::run(program, &arguments, variables).await
}

/// A word as a shell reads it.
fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,@+".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_pasted_into_a_shell() {
        let quoted = |word: &str| quoted(OsStr::new(word));
        assert_eq!(quoted("--file=/a/b.yaml"), "--file=/a/b.yaml");
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
