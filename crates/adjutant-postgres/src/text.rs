//! Text as PostgreSQL takes it: everything but the character NUL, which is escaped.

use std::borrow::Cow;

/// Stands before what is escaped. Unicode promises that it is no character.
const ESCAPE: char = '\u{10FFFF}';

/// Text to store. Equal texts are stored equally, different ones differently.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, ESCAPE]),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// The way back from [`stored`].
pub(crate) fn read(text: &str) -> Cow<'_, str> {
    if !text.contains(ESCAPE) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE if chars.next() == Some('0') => plain.push('\0'),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_has_no_nul() {
        let texts = [
            "",
            "plain",
            "a\0b",
            "\0",
            "0\u{10FFFF}0\0",
            "\u{10FFFF}\u{10FFFF}\0\0",
        ];
        for text in texts {
            let stored = stored(text);
            assert!(!stored.contains('\0'));
            assert_eq!(read(&stored), text);
        }
        assert_ne!(stored("\0"), stored("\u{10FFFF}0"));
    }
}
