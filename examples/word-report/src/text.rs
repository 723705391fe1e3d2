//! What can be said about a text by counting.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Words that say nothing about a text.
const COMMON: &[&str] = &[
    "about", "after", "also", "because", "been", "before", "both", "does", "each", "from", "have",
    "here", "into", "itself", "more", "only", "other", "over", "same", "some", "such", "than",
    "that", "their", "them", "then", "there", "they", "this", "what", "when", "where", "which",
    "while", "will", "with", "without", "your",
];

/// Shorter words are not ranked.
const MIN_TERM_CHARS: usize = 4;

/// A part of a text under a Markdown heading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The heading; empty for what comes before the first one.
    pub title: String,
    /// Where it begins, in bytes.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl Section {
    /// The section's part of the whole text.
    pub fn of<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start..self.end).unwrap_or_default()
    }
}

/// A word and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// The word in lower case.
    pub text: String,
    /// How often.
    pub count: u64,
}

/// Cuts a text at its headings, whatever is between fences of code aside.
pub fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section {
        title: String::new(),
        start: 0,
        end: text.len(),
    }];
    let (mut at, mut in_code) = (0, false);
    for line in text.split_inclusive('\n') {
        in_code ^= line.starts_with("```");
        if !in_code && line.starts_with('#') {
            let title = line.trim_matches(|c: char| c == '#' || c.is_whitespace());
            if let Some(last) = sections.last_mut() {
                last.end = at;
            }
            sections.push(Section {
                title: title.to_owned(),
                start: at,
                end: text.len(),
            });
        }
        at += line.len();
    }
    sections.retain(|section| !section.of(text).trim().is_empty());
    sections
}

/// Words as `wc -w` counts them: whatever white space separates.
pub fn count_words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// The words that occur most, most frequent first.
pub fn top_terms(text: &str, limit: usize) -> Vec<Term> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()) {
        let word = word.to_lowercase();
        if word.chars().count() >= MIN_TERM_CHARS && !COMMON.contains(&word.as_str()) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let mut terms: Vec<Term> = counts
        .into_iter()
        .map(|(text, count)| Term { text, count })
        .collect();
    terms.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.text.cmp(&b.text)));
    terms.truncate(limit);
    terms
}

/// The sentences with the most words, longest first.
pub fn longest_sentences(text: &str, limit: usize) -> Vec<String> {
    let ends = |(at, c): (usize, char)| {
        let next = text
            .get(at + c.len_utf8()..)
            .and_then(|rest| rest.chars().next());
        let ends = matches!(c, '.' | '!' | '?') && next.is_none_or(char::is_whitespace);
        let blank_line = c == '\n' && next == Some('\n');
        (ends || blank_line).then_some(at + c.len_utf8())
    };
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in text.char_indices().filter_map(ends).chain([text.len()]) {
        let words: Vec<&str> = text
            .get(start..end)
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        sentences.push(words.join(" "));
        start = end;
    }
    sentences.sort_by_key(|sentence| std::cmp::Reverse(count_words(sentence)));
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.truncate(limit);
    sentences
}

/// FNV-1a: tells whether a text is still the same.
pub fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "Intro words.\n\n# One\nApples and apples! Is it so?\n```\n# no heading\n```\n## Two\n\n";

    #[test]
    fn sections_begin_at_headings_and_cover_the_text() {
        let sections = sections(TEXT);
        let titles: Vec<&str> = sections
            .iter()
            .map(|section| section.title.as_str())
            .collect();
        assert_eq!(titles, ["", "One", "Two"]);
        let all: String = sections.iter().map(|section| section.of(TEXT)).collect();
        assert_eq!(all, TEXT);
    }

    #[test]
    fn terms_are_ranked_by_count_and_then_by_name() {
        let terms = top_terms("pear Apple apple pear zebra this this this", 2);
        let names: Vec<&str> = terms.iter().map(|term| term.text.as_str()).collect();
        assert_eq!(names, ["apple", "pear"]);
    }

    #[test]
    fn a_sentence_ends_at_its_mark_or_at_a_blank_line() {
        let text = "One two. Version 1.2 is three four five\n\nsix seven eight";
        assert_eq!(
            longest_sentences(text, 2),
            ["Version 1.2 is three four five", "six seven eight"]
        );
    }

    #[test]
    fn an_empty_text_has_nothing() {
        assert!(sections("").is_empty() && longest_sentences("", 3).is_empty());
        assert!(top_terms("", 3).is_empty());
    }
}
