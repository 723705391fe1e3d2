//! The report as Markdown.

use std::fmt;

use crate::text::{Section, Term};

pub struct Report<'a> {
    pub title: String,
    pub bytes: u64,
    pub sections: Vec<(&'a Section, &'a u64)>,
    pub terms: &'a [Term],
    pub sentences: &'a [String],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.sections.iter().map(|(_, words)| **words).sum();
        writeln!(f, "# Words in {}\n", self.title)?;
        writeln!(
            f,
            "{total} words in {} sections, {} bytes.\n",
            self.sections.len(),
            self.bytes
        )?;
        writeln!(f, "## Sections\n\n| section | words |\n|---|---:|")?;
        for (section, words) in &self.sections {
            let title = if section.title.is_empty() {
                "(before the first heading)"
            } else {
                &section.title
            };
            writeln!(f, "| {} | {words} |", title.replace('|', "\\|"))?;
        }
        writeln!(f, "\n## Top terms\n\n| term | count |\n|---|---:|")?;
        for term in self.terms {
            writeln!(f, "| {} | {} |", term.text, term.count)?;
        }
        writeln!(f, "\n## Longest sentences\n")?;
        for sentence in self.sentences {
            writeln!(f, "- {sentence}")?;
        }
        Ok(())
    }
}
