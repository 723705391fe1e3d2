//! The names of tools as agents see them: `server__tool`.

/// Between a server's name and a tool's.
pub(crate) const SEPARATOR: &str = "__";

/// The longest name that models take.
pub(crate) const MAX_NAME: usize = 64;

const fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether a server may have this name.
pub(crate) fn check_server(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 32 || !name.chars().all(is_plain) {
        return Err("a server's name is 1 to 32 letters, digits, `_` or `-`".into());
    }
    if name.contains(SEPARATOR) || name.ends_with('_') {
        return Err(format!(
            "a server's name has no `{SEPARATOR}` in it and no `_` at its end, because that parts it from its tools'"
        ));
    }
    Ok(())
}

/// A tool's full name; what models do not take in a name becomes `_`.
///
/// # Errors
/// When it is too long.
pub(crate) fn full(server: &str, tool: &str) -> Result<String, String> {
    if tool.is_empty() {
        return Err("a tool has no name".into());
    }
    let plain = |c: char| if is_plain(c) { c } else { '_' };
    let tool: String = tool.chars().map(plain).collect();
    let name = format!("{server}{SEPARATOR}{tool}");
    if name.len() > MAX_NAME {
        return Err(format!(
            "tool `{name}` has a name longer than the {MAX_NAME} characters that models take"
        ));
    }
    Ok(name)
}

/// The server in a full name.
pub(crate) fn server_of(name: &str) -> Option<&str> {
    name.split_once(SEPARATOR).map(|(server, _)| server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_name_tells_its_server() {
        for tool in ["read", "_read", "read__all", "fs.read", "a b"] {
            let name = full("my-files", tool).unwrap();
            assert_eq!(server_of(&name), Some("my-files"), "{name}");
            assert!(name.chars().all(is_plain), "{name}");
        }
    }

    #[test]
    fn names_that_no_model_takes_are_refused() {
        assert!(full("files", &"x".repeat(58)).is_err());
        assert!(full("files", "").is_err());
        for name in ["", "a b", "a__b", "a_", "ünlü"] {
            assert!(check_server(name).is_err(), "{name}");
        }
        assert!(check_server("my-files_2").is_ok());
    }
}
