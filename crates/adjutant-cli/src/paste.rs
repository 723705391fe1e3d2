//! Commands that are told to the user, written so that pasting them does what was told.

/// Commands that work on the store, as they stand in hints.
const COMMANDS: [&str; 7] = [
    "run ", "runs ", "worker ", "backup ", "restore ", "doctor", "config ",
];

/// How this program is called again for the same store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paste {
    program: String,
}

impl Default for Paste {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl Paste {
    /// With the options that were given to choose store and settings.
    pub fn new<'a>(options: impl Iterator<Item = (&'a str, String)>) -> Self {
        let mut program = "agent".to_owned();
        for (option, value) in options {
            program.push_str(&format!(" {option} {}", quoted(&value)));
        }
        Self { program }
    }

    /// A command: `agent`, these options, and the rest as it is.
    pub fn command(&self, rest: &str) -> String {
        format!("{} {rest}", self.program)
    }

    /// Advice with its commands, which stand in backquotes or behind a colon.
    pub fn advice(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for command in COMMANDS {
            for before in ["`", ": "] {
                text = text.replace(
                    &format!("{before}agent {command}"),
                    &format!("{before}{} {command}", self.program),
                );
            }
        }
        text
    }
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_and_advice_repeat_what_chose_the_store() {
        let options = [("--store", "sqlite:my runs.db".to_owned())];
        let paste = Paste::new(options.into_iter());
        let program = "agent --store 'sqlite:my runs.db'";
        assert_eq!(paste.command("runs list"), format!("{program} runs list"));
        assert_eq!(
            paste.advice("see `agent runs list`; once more: agent run PATH; an agent runs"),
            format!("see `{program} runs list`; once more: {program} run PATH; an agent runs")
        );
        let plain = "look closer with `agent doctor`";
        assert_eq!(Paste::default().advice(plain), plain);
    }

    #[test]
    fn a_word_is_quoted_when_a_shell_would_take_it_apart() {
        for (word, expected) in [
            ("sqlite:a.db", "sqlite:a.db"),
            ("a.db?synchronous=off", "'a.db?synchronous=off'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
