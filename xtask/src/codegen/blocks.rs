//! Finding and filling the marked blocks of a page.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

const END: &str = "<!-- /generated -->";

/// The names of the blocks of a page, in order.
pub fn names(page: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match begin(line) {
            Some(_) if open => bail!("a generated block begins inside another: `{line}`"),
            Some(name) => {
                names.push(name.to_owned());
                open = true;
            }
            None if line == END && !open => bail!("`{END}` ends no block"),
            None if line == END => open = false,
            None => {}
        }
    }
    if open {
        bail!("a generated block does not end: add `{END}`");
    }
    Ok(names)
}

/// The page with each block's content replaced by what was rendered under its name.
pub fn fill(page: &str, rendered: &BTreeMap<String, String>) -> String {
    let mut filled = String::with_capacity(page.len());
    let mut inside = false;
    for line in page.split_inclusive('\n') {
        let bare = line.trim_end_matches('\n');
        inside = inside && bare != END;
        if !inside {
            filled.push_str(line);
        }
        if let Some(content) = begin(bare).and_then(|name| rendered.get(name)) {
            inside = true;
            // Markdown wants blank lines between a comment and a table or fence.
            filled.push_str(&format!("\n{}\n\n", content.trim()));
        }
    }
    filled
}

fn begin(line: &str) -> Option<&str> {
    line.strip_prefix("<!-- generated:")?.strip_suffix(" -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "before\n<!-- generated:a -->\nold\n<!-- /generated -->\nafter\n";

    #[test]
    fn only_the_block_is_replaced_and_only_once() {
        let rendered = BTreeMap::from([(String::from("a"), String::from("new\n"))]);
        let filled = fill(PAGE, &rendered);
        let wanted = "before\n<!-- generated:a -->\n\nnew\n\n<!-- /generated -->\nafter\n";
        assert_eq!(filled, wanted);
        assert_eq!(fill(&filled, &rendered), wanted);
    }

    #[test]
    fn broken_markers_are_refused() {
        assert_eq!(names(PAGE).unwrap(), ["a"]);
        for page in [
            "<!-- generated:a -->\n",
            "<!-- /generated -->\n",
            &PAGE.replace("old", "<!-- generated:b -->"),
        ] {
            assert!(names(page).is_err(), "{page}");
        }
    }
}
