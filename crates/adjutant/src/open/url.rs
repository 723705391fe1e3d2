//! Secrets in URLs.

use adjutant_core::Result;

use super::invalid;

/// What stands where a password was.
const HIDDEN: &str = "PASSWORD";

/// The URL as it may be shown: with the word `PASSWORD` in place of the password, if it has one.
///
/// ```
/// let shown = adjutant::shown_url("postgres://me:secret@db.example/jobs");
/// assert_eq!(shown, "postgres://me:PASSWORD@db.example/jobs");
/// ```
#[must_use]
pub fn shown_url(url: &str) -> String {
    let url = without_parameters(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url;
    };
    // Where a password is not written as it should be, more is hidden rather than less.
    match rest
        .rsplit_once('@')
        .map(|(user, place)| (user.split_once(':'), place))
    {
        Some((Some((user, password)), place)) if !password.is_empty() => {
            format!("{scheme}://{user}:{HIDDEN}@{place}")
        }
        _ => url,
    }
}

/// Whether the URL itself has a password.
#[must_use]
pub fn has_password(url: &str) -> bool {
    shown_url(url) != url
}

fn without_parameters(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name @ ("password" | "pass"), value)) if !value.is_empty() => {
            format!("{name}={HIDDEN}")
        }
        _ => pair.to_owned(),
    });
    format!("{place}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Refuses a password that has one of the characters which end it. What stands behind them would be taken for the
/// name of a database or a parameter, and be told as such.
pub(super) fn check_escapes(url: &str) -> Result<()> {
    let Some((_, rest)) = url.split_once("://") else {
        return Ok(());
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let path = behind.split('?').next().unwrap_or(behind);
    let cut_off = !authority.contains('@') && behind.contains('@') && {
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        !port.bytes().all(|c| c.is_ascii_digit())
    };
    if cut_off || path.contains('@') {
        return Err(invalid(
            "has `/`, `?` or `#` in the user's name or password, or `@` in the database's name; \
             write them as %2F, %3F, %23, %40"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passwords_are_hidden() {
        for (url, shown) in [
            (
                "sqlite:a.db?synchronous=full",
                "sqlite:a.db?synchronous=full",
            ),
            ("postgres://me@h:1/d", "postgres://me@h:1/d"),
            (
                "postgres://me:x@h:1/d?schema=s",
                "postgres://me:PASSWORD@h:1/d?schema=s",
            ),
            ("postgres://me:a@b@h/d", "postgres://me:PASSWORD@h/d"),
            (
                "postgres://h/d?password=x&schema=s",
                "postgres://h/d?password=PASSWORD&schema=s",
            ),
            ("redis://:x@h", "redis://:PASSWORD@h"),
            (
                "redis+unix:///tmp/s?pass=x",
                "redis+unix:///tmp/s?pass=PASSWORD",
            ),
            (
                "redis-sentinel://u:x@a,b/main",
                "redis-sentinel://u:PASSWORD@a,b/main",
            ),
        ] {
            assert_eq!(shown_url(url), shown);
            assert_eq!(has_password(url), url != shown, "{url}");
        }
    }

    #[test]
    fn a_password_that_ends_too_early_is_refused() {
        for url in [
            "postgres://me:a/b@h/d",
            "postgres://me:1/b@h",
            "redis://:a?b@h",
            "redis://:a#b@h",
        ] {
            assert!(check_escapes(url).is_err(), "{url}");
        }
        for url in [
            "postgres://me:a%2Fb@h/d",
            "postgres://h:5432/d?application_name=a@b",
            "postgres:///d?host=/tmp&user=a@b",
            "redis+unix:///tmp/s?user=a@b",
        ] {
            assert!(check_escapes(url).is_ok(), "{url}");
        }
    }
}
