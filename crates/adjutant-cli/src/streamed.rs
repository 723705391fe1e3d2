//! A model's words on the terminal while they come.

use std::collections::HashSet;

/// What is to be written to the terminal for a piece of an answer, and which answers were shown in pieces.
#[derive(Debug, Default)]
pub struct Streamed {
    /// The step whose words stand on the last line, which has no end yet.
    open: Option<String>,
    shown: HashSet<String>,
}

/// Answers that are remembered as shown.
const REMEMBERED: usize = 10_000;

impl Streamed {
    /// The text for a piece of a step's answer. `margin` begins every line.
    pub fn piece(&mut self, step: &str, text: &str, margin: &str) -> String {
        let mut written = String::new();
        if self.open.as_deref() != Some(step) {
            written.push_str(&self.end());
            written.push_str(margin);
            self.open = Some(step.to_owned());
            if self.shown.len() < REMEMBERED {
                self.shown.insert(step.to_owned());
            }
        }
        written.push_str(&text.replace('\n', &format!("\n{margin}")));
        written
    }

    /// The end of the line that is open, before anything else is written.
    pub fn end(&mut self) -> String {
        match self.open.take() {
            Some(_) => "\n".to_owned(),
            None => String::new(),
        }
    }

    /// Whether this whole answer was shown in pieces before.
    pub fn was_shown(&mut self, step: &str) -> bool {
        self.shown.remove(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_answer_follow_each_other_and_others_begin_a_line() {
        let mut streamed = Streamed::default();
        let mut written = String::new();
        for (step, text) in [("a", "one "), ("a", "two\nthree"), ("b", "four")] {
            written += &streamed.piece(step, text, "| ");
        }
        written += &streamed.end();
        written += &streamed.end();
        assert_eq!(written, "| one two\n| three\n| four\n");
    }

    #[test]
    fn an_answer_that_was_shown_is_not_shown_whole() {
        let mut streamed = Streamed::default();
        streamed.piece("a", "x", "");
        assert!(streamed.was_shown("a"));
        assert!(
            !streamed.was_shown("a"),
            "the next answer of that name is another one"
        );
        assert!(!streamed.was_shown("b"));
    }
}
