//! What stands behind `--`.

use crate::Result;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Options {
    /// `source` or `target`; both without it.
    pub(crate) only: Option<String>,
    /// Sizes of bodies, in bytes.
    pub(crate) bodies: Vec<usize>,
    pub(crate) rounds: usize,
    /// Of one round of sends.
    pub(crate) seconds: u64,
    pub(crate) json: bool,
}

impl Options {
    pub(crate) fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options {
            only: None,
            bodies: vec![256, 4_096],
            rounds: 3,
            seconds: 2,
            json: false,
        };
        let mut words = words.iter();
        while let Some(name) = words.next() {
            let mut value = || {
                let value = words.next();
                value.ok_or_else(|| format!("{name} wants a value"))
            };
            match name.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--json" => options.json = true,
                "--only" => {
                    let side = value()?;
                    if side != "source" && side != "target" {
                        return Err(format!("--only source or target, not {side}").into());
                    }
                    options.only = Some(side.clone());
                }
                "--body" => {
                    let sizes = value()?.split(',');
                    options.bodies = sizes
                        .map(|size| number(name, size, 4 << 20))
                        .collect::<Result<_>>()?;
                }
                "--rounds" => options.rounds = number(name, value()?, 100)?,
                "--seconds" => options.seconds = number(name, value()?, 60)? as u64,
                other => {
                    return Err(format!(
                        "{other} is none of --only, --body, --rounds, --seconds, --json"
                    )
                    .into());
                }
            }
        }
        Ok(options)
    }
}

fn number(name: &str, text: &str, most: usize) -> Result<usize> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} wants numbers from 1 to {most}, not {text:?}").into()),
    }
}
