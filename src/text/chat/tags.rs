//! The tags of a template, looked at before it is compiled.
//!
//! `{% generation %}…{% endgeneration %}`, with which templates mark the assistant's own words,
//! becomes a scope (`with`) around a filter ([`FILTER`]), with the same whitespace control.
//! Expressions that would nest too deeply for the compiler's stack are refused.

/// Most characters of one tag, without spaces and text in quotes.
const LONGEST_TAG: usize = 4096;
/// The filter that the assistant's own words go through.
pub(super) const FILTER: &str = "generation_marks";
/// Most branches of one template; the compiler nests them.
const MOST_BRANCHES: usize = 1000;

/// `source` ready to compile, or the line and what is wrong with it. Comments, raw blocks and text
/// in quotes stay as they are.
pub(super) fn prepare(source: &str) -> Result<String, (usize, String)> {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    let mut branches = 0;
    while let Some(at) = rest.find('{') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, size) = match rest.as_bytes().get(1) {
            Some(b'#') => (rest.find("#}").map_or(rest.len(), |end| end + 2), 0),
            Some(b'{') => expression(rest, "}}"),
            Some(b'%') => expression(rest, "%}"),
            _ => (1, 0),
        };
        let (tag, after) = rest.split_at(length);
        rest = after;
        branches += usize::from(inside(tag).is_some_and(|tag| tag.starts_with("elif")));
        if size > LONGEST_TAG || branches > MOST_BRANCHES {
            let line = 1 + result.matches('\n').count();
            let problem = if size > LONGEST_TAG {
                format!("an expression of {size} characters, at most {LONGEST_TAG} are read")
            } else {
                format!("more than {MOST_BRANCHES} branches")
            };
            return Err((line, problem));
        }
        match inside(tag) {
            Some("generation") => {
                result.push_str(&two_tags(tag, "with", &format!("filter {FILTER}")));
            }
            Some("endgeneration") => result.push_str(&two_tags(tag, "endfilter", "endwith")),
            Some("raw") => {
                let end = end_of_raw(rest);
                result.push_str(tag);
                result.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => result.push_str(tag),
        }
    }
    result.push_str(rest);
    Ok(result)
}

/// Bytes up to and with `close`, which does not count inside quotes, and how many characters of
/// them are neither spaces nor inside quotes.
fn expression(text: &str, close: &str) -> (usize, usize) {
    let mut quote = None;
    let mut escaped = false;
    let mut size = 0;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                size += 1;
            }
            None if text[at..].starts_with(close) => return (at + close.len(), size),
            None if !c.is_whitespace() => size += 1,
            _ => {}
        }
    }
    (text.len(), size)
}

/// What stands in a block tag, without whitespace control.
fn inside(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim())
}

/// Two tags that control whitespace together as `tag` does.
fn two_tags(tag: &str, first: &str, second: &str) -> String {
    let open = if tag.starts_with("{%-") || tag.starts_with("{%+") { 3 } else { 2 };
    let close = if tag.ends_with("-%}") || tag.ends_with("+%}") { 3 } else { 2 };
    let (open, close) = (&tag[..open], &tag[tag.len() - close..]);
    format!("{open} {first} %}}{{% {second} {close}")
}

fn end_of_raw(text: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find("{%") {
        let start = at + found;
        let end = text[start..].find("%}").map_or(text.len(), |end| start + end + 2);
        if inside(&text[start..end]) == Some("endraw") {
            return start;
        }
        at = start + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(source: &str) -> String {
        prepare(source).unwrap()
    }

    #[test]
    fn only_the_tags_change() {
        assert_eq!(
            prepared("a{%- generation -%} {{ x }} {% endgeneration %}"),
            "a{%- with %}{% filter generation_marks -%} {{ x }} {% endfilter %}{% endwith %}"
        );
        for same in [
            "{{ '{% generation %}' }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% if generation %}{% endif %}",
            "{ generation } {%",
            "{{ 'it\\'s {#' }}",
        ] {
            assert_eq!(prepared(same), same);
        }
        assert_eq!(
            prepared("{{ '{#' }}{%generation%}"),
            "{{ '{#' }}{% with %}{% filter generation_marks %}"
        );
    }

    #[test]
    fn long_text_is_fine_and_long_expressions_are_not() {
        let text = format!("{{{{ '{}' }}}}", "a b".repeat(10_000));
        assert_eq!(prepared(&text), text);
        let (line, problem) = prepare(&format!("\n{{{{ {} }}}}", "1+".repeat(2049))).unwrap_err();
        assert_eq!(line, 2);
        assert!(problem.contains("4098 characters"), "{problem}");
        assert!(prepare(&"{%- elif x %}".repeat(1001)).is_err());
    }
}
