//! Other clocks beside this machine's. No rule compares times: what a difference does is told, so that somebody who looks for
//! it later need not guess.

/// How far Vault's clock may differ before it is told, in seconds: an answer is given up after this time, so it is no older.
///
/// A token of the API server, or of a pipeline, is valid by Vault's clock at the login and by its maker's until then: Vault
/// bears about a minute, and a token of ten is over so much earlier. And the times in the record are Vault's: whoever holds
/// them against other logs has to know.
pub(super) const BORNE_BY_VAULT: i64 = 10;

/// What is told of a clock that differs by more than is `borne`, all in seconds, the clocks' since 1970.
pub(super) fn difference(whose: &str, theirs: i64, ours: i64, borne: i64) -> Option<String> {
    let seconds = theirs.saturating_sub(ours);
    if seconds.saturating_abs() <= borne {
        return None;
    }
    let way = if seconds > 0 { "ahead of" } else { "behind" };
    Some(format!("the clock of {whose} is {} s {way} this one", seconds.saturating_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_told_of_once_it_differs_by_more_than_an_answer_takes() {
        let of = |theirs| difference("Vault", theirs, 1_000, 10);
        for theirs in [990, 995, 1_000, 1_010] {
            assert_eq!(of(theirs), None, "{theirs}");
        }
        assert_eq!(of(1_011).unwrap(), "the clock of Vault is 11 s ahead of this one");
        assert_eq!(of(989).unwrap(), "the clock of Vault is 11 s behind this one");
        assert!(of(i64::MIN).is_some() && of(i64::MAX).is_some());
    }
}
