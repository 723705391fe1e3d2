//! What the lines of a log say. Pure: no files, no runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often each kind of message occurs, by level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Lines read.
    pub lines: u64,
    /// Messages by level and signature.
    pub groups: BTreeMap<String, Group>,
}

/// Messages that differ only in numbers, ids and quoted text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The level, in capitals.
    pub level: String,
    /// Occurrences.
    pub count: u64,
    /// The first of them.
    pub sample: String,
}

/// Characters of a message that are kept.
const LONGEST: usize = 200;

const LEVELS: [&str; 4] = ["ERROR", "WARN", "INFO", "DEBUG"];

impl Findings {
    /// What these lines say. Lines without a level belong to the message before them and are only counted.
    pub fn of(text: &str) -> Self {
        let mut findings = Self::default();
        for line in text.lines() {
            findings.lines += 1;
            let level = LEVELS
                .into_iter()
                .find(|level| line.split_whitespace().any(|word| word == *level));
            let Some(level) = level else { continue };
            let message = line
                .split_once(level)
                .map_or(line, |(_, message)| message.trim());
            let message = clip(message);
            let group = findings
                .groups
                .entry(format!("{level} {}", signature(message)));
            let fresh = || Group {
                level: level.to_owned(),
                count: 0,
                sample: message.to_owned(),
            };
            group.or_insert_with(fresh).count += 1;
        }
        findings
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.lines += other.lines;
        for (signature, group) in other.groups {
            let mine = self.groups.entry(signature);
            mine.and_modify(|mine| mine.count += group.count)
                .or_insert(group);
        }
    }

    /// The findings as a page, worst first.
    pub fn report(&self, title: &str) -> String {
        let mut groups: Vec<_> = self.groups.values().collect();
        let severity = |group: &Group| LEVELS.iter().position(|level| *level == group.level);
        groups.sort_by(|a, b| severity(a).cmp(&severity(b)).then(b.count.cmp(&a.count)));
        let mut page = format!(
            "# Triage of {title}\n\n{} lines, {} kinds of messages.\n",
            self.lines,
            groups.len()
        );
        let mut level = "";
        for group in groups {
            if group.level != level {
                level = &group.level;
                page.push_str(&format!("\n## {level}\n\n"));
            }
            page.push_str(&format!("- {} × {}\n", group.count, group.sample));
        }
        page
    }
}

fn clip(message: &str) -> &str {
    let end = message.char_indices().nth(LONGEST);
    end.map_or(message, |(end, _)| &message[..end])
}

/// The message with everything that varies taken out.
fn signature(message: &str) -> String {
    let words = message.split_whitespace().map(|word| {
        let varies = word.contains(|c: char| c.is_ascii_digit()) || word.starts_with(['"', '\'']);
        if varies { "*" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Cuts text into pieces of about `lines` lines; a line without a level stays with the one before it.
pub fn cut(text: &str, lines: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut begin, mut end, mut size) = (0, 0, 0);
    for line in text.split_inclusive('\n') {
        let begins = LEVELS.iter().any(|level| line.contains(level));
        if size >= lines && begins {
            pieces.push(&text[begin..end]);
            (begin, size) = (end, 0);
        }
        end += line.len();
        size += 1;
    }
    if begin < end {
        pieces.push(&text[begin..end]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "1 INFO took 12 ms\n2 ERROR no user 7\n  at line 3\n3 ERROR no user 9\n4 INFO took 3 ms\n";

    #[test]
    fn messages_that_differ_in_numbers_are_one_group() {
        let findings = Findings::of(LOG);
        assert_eq!(findings.lines, 5);
        assert_eq!(findings.groups["ERROR no user *"].count, 2);
        assert_eq!(findings.groups["INFO took * ms"].sample, "took 12 ms");
    }

    #[test]
    fn chunks_together_say_what_the_whole_says() {
        for lines in 1..6 {
            let mut merged = Findings::default();
            cut(LOG, lines)
                .into_iter()
                .for_each(|chunk| merged.merge(Findings::of(chunk)));
            assert_eq!(merged, Findings::of(LOG), "in chunks of {lines}");
        }
    }

    #[test]
    fn errors_come_first() {
        let page = Findings::of(LOG).report("x");
        assert!(page.find("## ERROR") < page.find("## INFO"), "{page}");
    }
}
