//! Every command that a text of this project tells people to give is one that the program takes.

use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::Cli;

/// Where people read commands: messages and help in the code, and the documentation.
const PLACES: [&str; 7] = [
    "control-plane/src",
    "history/src",
    "src",
    "chaos/src",
    "ffi/README.md",
    "README.md",
    "CHANGELOG.md",
];

fn files(place: &Path, found: &mut Vec<PathBuf>) {
    if place.is_file() {
        let named = |ending| place.extension().is_some_and(|found| found == ending);
        if named("rs") || named("md") {
            found.push(place.to_owned());
        }
        return;
    }
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        // Tests have commands that are refused.
        if !path.ends_with("tests") && !path.ends_with("tests.rs") && !path.ends_with("hints.rs") {
            files(&path, found);
        }
    }
}

/// The commands of a text, as words for a shell.
fn commands(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    // As the compiler and the reader see it: line ends in strings, continued lines of strings and of shells.
    let mut lines = String::new();
    let text = text.replace("\\\\\\n", " ").replace("\\n", "\n");
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\\\n") {
        lines.push_str(before);
        rest = after.trim_start();
    }
    lines.push_str(rest);
    // In Markdown a command may go on in the next line.
    let mut found: Vec<String> = Vec::new();
    for (index, part) in lines.split('`').enumerate() {
        let quoted = index % 2 == 1;
        if quoted && part.starts_with("crossfade ") {
            found.push(part.split_whitespace().collect::<Vec<_>>().join(" "));
            continue;
        }
        for line in part.lines() {
            let Some(at) = line.find("crossfade ") else {
                continue;
            };
            // Else it is a word of a sentence.
            let known = Cli::command();
            let next = line[at + "crossfade ".len()..].split_whitespace().next();
            if next.is_some_and(|next| known.find_subcommand(next).is_some()) {
                found.push(unquoted(&line[at..]).to_owned());
            }
        }
    }
    found
}

/// A command that stands in a sentence, or in a line with a comment, up to its end.
fn unquoted(line: &str) -> &str {
    let ends = [
        " #", " |", " >", " &", "\"", ")", ". ", "; ", ", ", ": ", " (",
    ];
    let end = ends.iter().filter_map(|end| line.find(end)).min();
    line[..end.unwrap_or(line.len())]
        .trim_end()
        .trim_end_matches('.')
}

/// Something in the place of what is filled in.
fn filled(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for letter in command.chars() {
        match (letter, quote) {
            ('\'', None) => quote = Some('\''),
            (letter, Some(open)) if letter == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    let example = |word: String| match word.as_str() {
        "{other}" | "{word}" => "advance".to_owned(),
        "{to}" | "{next}" => "dual_read".to_owned(),
        // The first of several.
        other => other.split('|').next().unwrap_or_default().to_owned(),
    };
    words
        .into_iter()
        .map(example)
        .filter(|word| !word.is_empty())
        .collect()
}

/// A command, or the name of one: `crossfade topic`, or `crossfade topic add`.
fn is_taken(words: &[String]) -> Result<(), clap::Error> {
    let Err(error) = Cli::try_parse_from(words) else {
        return Ok(());
    };
    let mut command = &Cli::command();
    let names = words[1..].iter().take_while(|word| {
        let found = command.find_subcommand(word);
        command = found.unwrap_or(command);
        found.is_some() || *word == "..."
    });
    let only_named = names.count() == words.len() - 1;
    match error.kind() {
        ErrorKind::DisplayHelp => Ok(()),
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if only_named =>
        {
            Ok(())
        }
        _ => Err(error),
    }
}

#[test]
fn commands_that_people_are_told_to_give_are_commands_of_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut read = Vec::new();
    for place in PLACES {
        files(&root.join(place), &mut read);
    }
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in read {
        let text = std::fs::read_to_string(&file).unwrap();
        for command in commands(&text) {
            count += 1;
            if let Err(error) = is_taken(&filled(&command)) {
                wrong.push(format!("{}: {command}\n{error}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The search itself finds them: there are some hundred.
    assert!(count > 60, "only {count} commands were found");
}

#[test]
fn wrong_commands_are_found_wherever_they_stand() {
    for (text, right) in [
        ("is it from `crossfade load --history`?", false),
        ("give `crossfade load produce` a --history", true),
        (
            "\"topic {topic}: crossfade topic show {topic}. To go on\"",
            true,
        ),
        (
            "\"topic {topic}: crossfade topic shows {topic}. To go on\"",
            false,
        ),
        ("\"crossfade topic add {topic} --group G,...\"", true),
        ("\"crossfade topic add {topic} --groups G,...\"", false),
        (
            "`crossfade instance\nconfirm-gone NAME --reason TEXT`",
            true,
        ),
        ("`crossfade instance\nconfirm-gone NAME --why TEXT`", false),
        ("crossfade topic advance orders --to 4   # too much", false),
        ("of crossfade itself", true),
    ] {
        let found = commands(text);
        let mut all = found.iter().map(|command| is_taken(&filled(command)));
        assert_eq!(all.all(|taken| taken.is_ok()), right, "{text}: {found:?}");
    }
}
