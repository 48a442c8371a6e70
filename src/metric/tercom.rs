//! TER's tokenizer: tercom's, as sacreBLEU 2.6 has it.

use super::text::lowercase;
use super::tokenize::{joined, split_points, split_symbols, unescape};

/// What the tokenizer does to a line.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "tercom's four switches")]
pub(super) struct Tercom {
    pub(super) normalized: bool,
    pub(super) no_punctuation: bool,
    pub(super) asian: bool,
    pub(super) case_sensitive: bool,
}

impl Tercom {
    pub(super) fn tokenize(self, line: &str) -> String {
        let mut line = lowercase(line, !self.case_sensitive).into_owned();
        if line.is_empty() {
            return line;
        }
        if self.normalized {
            line = normalize(&line);
            if self.asian {
                line = set_apart(&line, is_asian);
            }
        }
        if self.no_punctuation {
            line.retain(|c| !matches!(c, '.' | ',' | '?' | ':' | ';' | '!' | '"' | '(' | ')'));
            if self.asian {
                line.retain(|c| !is_asian_punctuation(c));
            }
        }
        joined(&line)
    }
}

fn normalize(line: &str) -> String {
    let line = unescape(line.replace("\n-", "").replace('\n', " "));
    let line = split_symbols(&format!(" {line} "));
    split_points(&line.replace("'s ", " 's "))
}

fn set_apart(line: &str, which: impl Fn(char) -> bool) -> String {
    let mut apart = String::with_capacity(line.len() * 2);
    for c in line.chars() {
        let alone = which(c);
        apart.extend(alone.then_some(' '));
        apart.push(c);
        apart.extend(alone.then_some(' '));
    }
    apart
}

/// Characters that stand alone. The original's range of enclosed letters ends at U+3F22, which
/// makes kana stand alone as well; its own rules for kana match only at the start of a line, where
/// padding always is.
fn is_asian(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{31c0}'..='\u{31ef}'
        | '\u{2e80}'..='\u{2eff}' | '\u{3300}'..='\u{33ff}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{3200}'..='\u{3f22}')
        || is_asian_punctuation(c)
}

fn is_asian_punctuation(c: char) -> bool {
    matches!(c,
        '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}'
        | '\u{ff61}'..='\u{ff65}' | '\u{30fb}' | '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}'
        | '\u{ff1a}' | '\u{ff1b}' | '\u{ff01}' | '\u{ff02}' | '\u{ff08}' | '\u{ff09}')
}
