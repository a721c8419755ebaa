//! Times as Go's `time.RFC3339` layout parses and prints them: `lastmodified`, `created_at` and
//! values of `type:time`.

/// A parsed time: its fields as they stood, the fraction without trailing zeros, the offset in
/// minutes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Moment<'a> {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    fraction: &'a str,
    offset_minutes: i32,
}

impl<'a> Moment<'a> {
    /// What Go's `time.Parse(time.RFC3339, text)` accepts, and nothing else: the hour may have one
    /// digit, the fraction may follow a comma, the offset reaches `24:60`; `T` and `Z` are capitals.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut rest = Rest(text);
        let year = rest.digits(4, 4)?;
        rest.literal('-')?;
        let month = rest.digits(2, 2).filter(|month| (1..=12).contains(month))?;
        rest.literal('-')?;
        let day = rest.digits(2, 2).filter(|day| (1..=days_of(month, year)).contains(day))?;
        rest.literal('T')?;
        let hour = rest.digits(1, 2).filter(|hour| *hour < 24)?;
        rest.literal(':')?;
        let minute = rest.digits(2, 2).filter(|minute| *minute < 60)?;
        rest.literal(':')?;
        let second = rest.digits(2, 2).filter(|second| *second < 60)?;
        let fraction = rest.fraction();
        let offset_minutes = rest.offset()?;
        rest.0.is_empty().then_some(Self { year, month, day, hour, minute, second, fraction, offset_minutes })
    }

    /// Go's `Format(time.RFC3339)`: whole seconds. The MAC's additional data.
    pub(crate) fn to_seconds(&self) -> String {
        let Self { year, month, day, hour, minute, second, .. } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{}", self.zone())
    }

    /// Go's `MarshalText`: the bytes that SOPS encrypts and hashes. `None` for an offset of a day or
    /// more, which Go refuses to write.
    pub(crate) fn to_nanoseconds(&self) -> Option<String> {
        if self.offset_minutes.abs() >= 24 * 60 {
            return None;
        }
        let Self { year, month, day, hour, minute, second, fraction, .. } = self;
        let point = if fraction.is_empty() { "" } else { "." };
        let zone = self.zone();
        Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}{zone}"))
    }

    fn zone(&self) -> String {
        if self.offset_minutes == 0 {
            return "Z".to_owned();
        }
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// What is not parsed yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// A number of `least` to `most` digits, as many as there are.
    fn digits(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        let (number, rest) = self.0.split_at(count);
        self.0 = rest;
        number.parse().ok()
    }

    fn literal(&mut self, expected: char) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    /// `.5` or `,5`, if there is one: at most nine digits count, and no zeros at the end.
    fn fraction(&mut self) -> &'a str {
        let Some(digits) = self.0.strip_prefix(['.', ',']) else { return "" };
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return "";
        }
        let (fraction, rest) = digits.split_at(count);
        self.0 = rest;
        fraction.get(..9).unwrap_or(fraction).trim_end_matches('0')
    }

    /// `Z`, or a sign, two digits, a colon and two digits.
    fn offset(&mut self) -> Option<i32> {
        if self.literal('Z').is_some() {
            return Some(0);
        }
        let sign = if self.literal('+').is_some() {
            1
        } else {
            self.literal('-')?;
            -1
        };
        let hours = self.digits(2, 2).filter(|hours| *hours <= 24)?;
        self.literal(':')?;
        let minutes = self.digits(2, 2).filter(|minutes| *minutes <= 60)?;
        Some(sign * i32::try_from(hours * 60 + minutes).ok()?)
    }
}

fn days_of(month: u32, year: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<String> {
        Moment::parse(text).map(|moment| moment.to_seconds())
    }

    fn nanoseconds(text: &str) -> Option<String> {
        Moment::parse(text).and_then(|moment| moment.to_nanoseconds())
    }

    #[test]
    fn seconds_drop_the_fraction_and_keep_the_offset() {
        for (text, expected) in [
            ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06T7:08:09Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09.123Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09,123Z", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09+00:00", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09-00:00", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09+05:60", "2024-05-06T07:08:09+06:00"),
            ("2024-05-06T07:08:09-01:30", "2024-05-06T07:08:09-01:30"),
            ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
        ] {
            assert_eq!(seconds(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_spellings_are_no_times() {
        for text in [
            "",
            "2024-05-06",
            "2024-5-06T07:08:09Z",
            "2024-05-6T07:08:09Z",
            "2024-05-06t07:08:09Z",
            "2024-05-06T07:08:09z",
            "2024-05-06 07:08:09Z",
            "2024-05-06T07:8:09Z",
            "2024-05-06T07:08:09",
            "2024-05-06T07:08:09.Z",
            "2024-05-06T07:08:09+0530",
            "2024-05-06T07:08:09+25:00",
            "2024-05-06T07:08:09+05:61",
            "2024-05-06T24:08:09Z",
            "2024-05-06T07:08:60Z",
            "2023-02-29T07:08:09Z",
            "2024-13-06T07:08:09Z",
            "2024-05-06T07:08:09Z ",
            " 2024-05-06T07:08:09Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn nanoseconds_lose_zeros_and_digits_beyond_the_ninth() {
        for (text, expected) in [
            ("2024-05-06T07:08:09.120Z", Some("2024-05-06T07:08:09.12Z")),
            ("2024-05-06T07:08:09.000Z", Some("2024-05-06T07:08:09Z")),
            ("2024-05-06T07:08:09.1234567891Z", Some("2024-05-06T07:08:09.123456789Z")),
            ("2024-05-06T07:08:09+23:59", Some("2024-05-06T07:08:09+23:59")),
            ("2024-05-06T07:08:09+24:00", None),
            ("2024-05-06T07:08:09-23:60", None),
        ] {
            assert_eq!(nanoseconds(text).as_deref(), expected, "{text}");
        }
    }
}
