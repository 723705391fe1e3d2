//! A YAML file whose top-level keys belong to several readers.
//!
//! Each reader gets the whole file with the lines of the others left empty, so that it refuses what it does not know and
//! names the right line.

/// The text without the sections of these top-level keys, and the text of those sections alone.
pub fn split(text: &str, keys: &[&str]) -> (String, String) {
    let (mut rest, mut own) = (String::new(), String::new());
    let mut is_own = false;
    for line in text.split_inclusive('\n') {
        if let Some(key) = top_level_key(line) {
            is_own = keys.contains(&key);
        } else if starts_document(line) {
            is_own = false;
        }
        let (to, other) = if is_own {
            (&mut own, &mut rest)
        } else {
            (&mut rest, &mut own)
        };
        to.push_str(line);
        if line.ends_with('\n') {
            other.push('\n');
        }
    }
    (rest, own)
}

/// Whether the text says anything.
pub fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    })
}

/// The key that a line begins with, if it begins a section.
fn top_level_key(line: &str) -> Option<&str> {
    let begins =
        line.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '"' | '\''));
    if !begins {
        return None;
    }
    let (key, rest) = line.split_once(':')?;
    let ends = rest.is_empty() || rest.starts_with(char::is_whitespace);
    ends.then(|| key.trim().trim_matches(['"', '\'']))
}

fn starts_document(line: &str) -> bool {
    line.starts_with("---") || line.starts_with("...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_its_sections_at_their_lines() {
        let text = "name: a\nmodel:\n  name: x\n\n  # note\ntools: {}\ncommand:\n- run\n";
        let (rest, own) = split(text, &["model", "tools"]);
        assert_eq!(rest, "name: a\n\n\n\n\n\ncommand:\n- run\n");
        assert_eq!(own, "\nmodel:\n  name: x\n\n  # note\ntools: {}\n\n\n");
    }

    #[test]
    fn text_in_a_block_is_no_key() {
        let text = "instructions: |\n  model: not one\nname: a";
        let (rest, own) = split(text, &["model"]);
        assert_eq!((rest.as_str(), is_blank(&own)), (text, true));
    }

    #[test]
    fn keys_may_be_quoted_and_need_a_space() {
        let (_, own) = split("\"model\": x\nhttp://a: b\n", &["model"]);
        assert_eq!(own, "\"model\": x\nhttp://a: b\n");
    }
}
