//! The time, as templates ask for it: `strftime_now('%d %b %Y')`.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

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

/// A moment in the proleptic Gregorian calendar.
struct Moment {
    year: i64,
    month: usize,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From 0, a Sunday.
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

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
            moment.write(&mut text, directive, pad)?;
        }
        Ok(text)
    }
}

impl Moment {
    /// Days to a date as in Howard Hinnant's `civil_from_days`.
    fn new(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468; // from 0000-03-01
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let from_march = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let day = from_march - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month <= 1);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let day_of_year =
            if month <= 1 { from_march - 306 + 1 } else { from_march + 59 + i64::from(leap) + 1 };
        Self {
            year,
            month: usize::try_from(month).unwrap_or(0),
            day,
            day_of_year,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    fn write(&self, text: &mut String, directive: char, pad: bool) -> Result<(), String> {
        let (month, day) = (MONTHS[self.month], DAYS[self.weekday]);
        let number = self.month + 1;
        let (value, width) = match directive {
            'Y' => (self.year, if pad { 4 } else { 1 }),
            'y' => (self.year % 100, 2),
            'm' => (i64::try_from(number).unwrap_or(0), 2),
            'd' => (self.day, 2),
            'H' => (self.hour, 2),
            'I' => ((self.hour + 11) % 12 + 1, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'j' => (self.day_of_year, 3),
            'f' => (0, 6),
            'w' => (i64::try_from(self.weekday).unwrap_or(0), 1),
            _ => {
                let done = match directive {
                    'B' => write!(text, "{month}"),
                    'b' | 'h' => write!(text, "{}", &month[..3]),
                    'A' => write!(text, "{day}"),
                    'a' => write!(text, "{}", &day[..3]),
                    'p' => write!(text, "{}", if self.hour < 12 { "AM" } else { "PM" }),
                    'e' => write!(text, "{:>2}", self.day),
                    'F' => write!(text, "{:04}-{number:02}-{:02}", self.year, self.day),
                    'T' => write!(text, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second),
                    'R' => write!(text, "{:02}:{:02}", self.hour, self.minute),
                    'D' => {
                        write!(text, "{number:02}/{:02}/{:02}", self.day, self.year % 100)
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
