//! Until when a lock has to stay: the sentence of the condition `Settled` that says so, and who reads it.

const REFUSED: &str = "what is cached is refused by the lock ";
const UNTIL: &str = ", which has to stay until ";

/// What the condition says last, where the lock is all that keeps cached values off. `until` is in whole seconds, in UTC.
pub fn stays(lock: &str, until: &str) -> String {
    format!("{REFUSED}{lock}{UNTIL}{until}")
}

/// The condition `Settled`, where it holds.
#[derive(Clone, Copy, Debug)]
pub struct Noted<'a> {
    /// Whether a person left something behind, which the message names.
    pub left_behind: bool,
    /// Its message.
    pub message: &'a str,
}

/// Why the lock has to stay at this time, written as in [`stays`]; `None` where it need not.
pub fn needed(noted: Option<&Noted<'_>>, lock: &str, now: &str) -> Option<String> {
    let Some(Noted { left_behind, message }) = noted else {
        return Some("the Authority does not say how it was settled".to_owned());
    };
    if *left_behind {
        return Some(format!(
            "it may be all that keeps off what Argo CD has cached, since something was left behind ({message}): \
             `regent handover --caches-locked` with neither `--skip-app` nor `--settle-without` looks at it again"
        ));
    }
    if !message.contains(REFUSED) && !message.contains(UNTIL) {
        return None;
    }
    let until = message.rsplit_once(&stays(lock, "")).map(|(_, until)| until).filter(|until| is_time(until));
    match until {
        // Times of one length are in the order of their text.
        Some(until) if is_time(now) && now >= until => None,
        Some(until) => {
            Some(format!("the lock has to stay until {until}: until then it refuses what Argo CD has cached"))
        }
        None => Some(format!("until when the lock has to stay is not known: {message}")),
    }
}

/// `2026-01-01T00:00:00Z`.
fn is_time(text: &str) -> bool {
    let form = b"0000-00-00T00:00:00Z";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(byte, form)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "regent-lock-prod";
    const T: &str = "2026-03-02T10:00:00Z";

    fn at(message: &str, now: &str) -> Option<String> {
        needed(Some(&Noted { left_behind: false, message }), LOCK, now)
    }

    #[test]
    fn a_lock_stays_until_the_hour_that_was_noted() {
        let message = format!("3 Applications were compared with stubs; {}", stays(LOCK, T));
        let why = at(&message, "2026-03-02T09:59:59Z").unwrap();
        assert!(why.contains(T), "{why}");
        assert_eq!(at(&message, T), None);
        assert_eq!(at(&message, "2027-01-01T00:00:00Z"), None);
        // A clock that does not tell.
        assert!(at(&message, "").is_some());
    }

    #[test]
    fn where_nothing_is_cached_no_lock_has_to_stay() {
        for message in
            ["there is no Argo CD here", "1 Application was compared with stubs; 2 cached manifests were removed"]
        {
            assert_eq!(at(message, T), None);
        }
    }

    #[test]
    fn what_is_not_read_keeps_it() {
        assert!(needed(None, LOCK, T).is_some());
        for message in [
            stays(LOCK, "tomorrow"),
            stays(LOCK, "2026-03-02T10:00:00.5Z"),
            stays("regent-lock-edge", "2000-01-01T00:00:00Z"),
            format!("{} and more", stays(LOCK, "2000-01-01T00:00:00Z")),
            REFUSED.to_owned(),
        ] {
            assert!(at(&message, "2030-01-01T00:00:00Z").is_some(), "{message}");
        }
    }

    #[test]
    fn what_was_left_behind_keeps_it_whatever_the_hour() {
        let message = stays(LOCK, "2000-01-01T00:00:00Z");
        let noted = Noted { left_behind: true, message: &message };
        assert!(needed(Some(&noted), LOCK, T).unwrap().contains("--caches-locked"));
    }
}
