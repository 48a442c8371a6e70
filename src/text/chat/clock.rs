//! The time, as templates ask for it: `strftime_now('%d %b %Y')`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::clock::Moment;

/// What time it is for a template.
///
/// `transformers` answers with the local time; here it is UTC, so that the same command gives the
/// same prompt wherever it runs. Fix the time to get the same prompt every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The system's time, in UTC.
    #[default]
    System,
    /// A fixed time: seconds since 1970-01-01 00:00 UTC.
    At(i64),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// 0001-01-01 to 9999-12-31, Python's range.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Clock {
    fn seconds(self) -> i64 {
        let now = match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            Self::At(seconds) => seconds,
        };
        now.clamp(*RANGE.start(), *RANGE.end())
    }

    /// The time in the words of `format`, as C's locale and Python's `strftime` have it; an error
    /// names the directive that is not known.
    pub(super) fn strftime(self, format: &str) -> Result<String, String> {
        let moment = Moment::new(self.seconds());
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let (pad, directive) = match rest.next() {
                Some('-') => (false, rest.next()),
                directive => (true, directive),
            };
            let directive = directive.ok_or("`%` at the end of the format")?;
            write_part(&moment, &mut text, directive, pad)?;
        }
        Ok(text)
    }
}

/// One part of a moment, as `strftime` writes it.
fn write_part(
    moment: &Moment,
    text: &mut String,
    directive: char,
    pad: bool,
) -> Result<(), String> {
    let (month, day) = (MONTHS[moment.month], DAYS[moment.weekday]);
    let number = moment.month + 1;
    let (value, width) = match directive {
        'Y' => (moment.year, if pad { 4 } else { 1 }),
        'y' => (moment.year % 100, 2),
        'm' => (i64::try_from(number).unwrap_or(0), 2),
        'd' => (moment.day, 2),
        'H' => (moment.hour, 2),
        'I' => ((moment.hour + 11) % 12 + 1, 2),
        'M' => (moment.minute, 2),
        'S' => (moment.second, 2),
        'j' => (moment.day_of_year, 3),
        'f' => (0, 6),
        'w' => (i64::try_from(moment.weekday).unwrap_or(0), 1),
        _ => {
            let done = match directive {
                'B' => write!(text, "{month}"),
                'b' | 'h' => write!(text, "{}", &month[..3]),
                'A' => write!(text, "{day}"),
                'a' => write!(text, "{}", &day[..3]),
                'p' => write!(text, "{}", if moment.hour < 12 { "AM" } else { "PM" }),
                'e' => write!(text, "{:>2}", moment.day),
                'F' => write!(text, "{:04}-{number:02}-{:02}", moment.year, moment.day),
                'T' => write!(text, "{:02}:{:02}:{:02}", moment.hour, moment.minute, moment.second),
                'R' => write!(text, "{:02}:{:02}", moment.hour, moment.minute),
                'D' => {
                    write!(text, "{number:02}/{:02}/{:02}", moment.day, moment.year % 100)
                }
                'z' | 'Z' => Ok(()), // a time without a zone, as in Python
                '%' => write!(text, "%"),
                other => return Err(format!("`%{other}` is not a known part of a date")),
            };
            return done.map_err(|e| e.to_string());
        }
    };
    let width = if pad { width } else { 1 };
    write!(text, "{value:0width$}").map_err(|e| e.to_string())
}
#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, format: &str) -> String {
        Clock::At(seconds).strftime(format).unwrap()
    }

    #[test]
    fn dates_are_those_of_python() {
        // datetime.fromtimestamp(n, timezone.utc).replace(tzinfo=None).strftime(format)
        let all = "%Y-%m-%d %H:%M:%S %B %b %A %a %y %j %p %I %e %-d %F %T %D %%";
        assert_eq!(
            text(1_721_952_000, all),
            "2024-07-26 00:00:00 July Jul Friday Fri 24 208 AM 12 26 26 2024-07-26 00:00:00 07/26/24 %"
        );
        assert_eq!(text(951_782_400, "%d %b %Y %j %A"), "29 Feb 2000 060 Tuesday");
        assert_eq!(text(1_735_689_599, "%F %j %p %I %a"), "2024-12-31 366 PM 11 Tue");
        assert_eq!(text(-1, "%F %T %A"), "1969-12-31 23:59:59 Wednesday");
        assert_eq!(text(1_709_251_200, "%-d/%-m %j"), "1/3 061");
    }

    #[test]
    fn formats_that_are_not_known() {
        assert!(Clock::At(0).strftime("%Q").unwrap_err().contains("`%Q`"));
        assert!(Clock::At(0).strftime("50%").is_err());
        assert_eq!(text(i64::MAX, "%Y"), "9999");
    }
}
