//! From YAML to a suite: its prompts.

use std::collections::BTreeMap;

use super::error::{Place, SuiteError};
use super::model::{Input, Message, Prompt, Suite};
use super::settings::{SETTINGS, Settings};
use super::yaml::{Fields, Kind, Node, Source};
use crate::base::hint::nearest;
use crate::base::terminal::printable;

const KEYS: [&str; 7] =
    ["id", "group", "prompt", "messages", "references", "reference", "settings"];
const ROLES: [&str; 3] = ["system", "user", "assistant"];
/// The groups that the program knows by name.
const GROUPS: [&str; 2] = ["heldout", "base"];
/// Longest id, and longest name of a group, in characters.
const LONGEST: usize = 200;

/// Reads the list of prompts into `suite`. `node` is the list where it is `present`, else the suite.
pub(super) fn read(
    source: Source<'_>,
    node: &Node,
    present: bool,
    suite: &mut Suite,
) -> Result<(), SuiteError> {
    let nothing = match &node.value {
        Kind::Empty => true,
        Kind::List(list) => list.is_empty(),
        _ => !present,
    };
    if nothing {
        return Err(SuiteError::NoPrompts { place: source.place(node) });
    }
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    let mut doubtful: BTreeMap<String, String> = BTreeMap::new();
    for item in source.list(node, "`prompts`", "write `- id: first` and `prompt: …` below it")? {
        let (prompt, id_place) = source.prompt(item)?;
        if let Some(&first) = lines.get(&prompt.id) {
            return Err(SuiteError::RepeatedId { place: id_place, id: prompt.id, first });
        }
        lines.insert(prompt.id.clone(), id_place.line);
        if !GROUPS.contains(&prompt.group.as_str())
            && let Some(near) = nearest(&prompt.group, GROUPS)
        {
            let group = printable(&prompt.group);
            let warning = format!(
                "{}:{}: group `{group}` is one of its own; was `{near}` meant?",
                source.path.display(),
                prompt.line,
            );
            doubtful.entry(prompt.group.clone()).or_insert(warning);
        }
        suite.prompts.push(prompt);
    }
    suite.warnings.extend(doubtful.into_values());
    Ok(())
}

impl<'a> Source<'a> {
    /// One prompt, and where its id is.
    fn prompt(self, node: &'a Node) -> Result<(Prompt, Place), SuiteError> {
        let fields = self.fields(node, "a prompt", &KEYS, |key| {
            SETTINGS
                .contains(&key)
                .then(|| format!("`{key}` belongs below the prompt's `settings`"))
        })?;
        let Some((_, id_node)) = fields.get("id") else {
            return Err(SuiteError::Missing {
                place: self.place(node),
                what: "a prompt",
                key: "id",
                hint: "write `id: first`; cells and reports call the prompt by it",
            });
        };
        let id = self.word(id_node, "`id`", |c| !c.is_control(), "a short text on one line")?;
        let group = match fields.get("group") {
            Some((_, node)) => self.word(
                node,
                "`group`",
                |c| c.is_alphanumeric() || "-_.".contains(c),
                "letters, digits, `-`, `_` and `.`",
            )?,
            None => GROUPS[0].to_owned(),
        };
        let prompt = Prompt {
            input: self.input(node, &fields, &id)?,
            references: self.references(&fields, &id)?,
            settings: match fields.get("settings") {
                Some((_, node)) => self.settings(node, "`settings`")?,
                None => Settings::default(),
            },
            line: self.place(node).line,
            id,
            group,
        };
        Ok((prompt, self.place(id_node)))
    }

    /// A short text of allowed characters.
    fn word(
        self,
        node: &'a Node,
        what: &str,
        allowed: fn(char) -> bool,
        expected: &'static str,
    ) -> Result<String, SuiteError> {
        let text = self.text(node, what)?;
        let word = text.trim();
        if word.is_empty() || word.chars().count() > LONGEST || !word.chars().all(allowed) {
            return Err(SuiteError::Value {
                place: self.place(node),
                what: what.to_owned(),
                found: format!("`{}`", printable(&text)),
                expected,
                hint: format!("write 1 to {LONGEST} characters, such as `heldout-1`").into(),
            });
        }
        Ok(word.to_owned())
    }

    fn input(self, node: &Node, fields: &Fields<'a>, id: &str) -> Result<Input, SuiteError> {
        let (input, place) = match (fields.get("prompt"), fields.get("messages")) {
            (Some(_), Some((place, _))) => {
                let keys = "prompt` and `messages";
                return Err(SuiteError::Both { place: place.clone(), id: id.to_owned(), keys });
            }
            (None, None) => {
                return Err(SuiteError::Neither { place: self.place(node), id: id.to_owned() });
            }
            (Some((place, text)), None) => match text.value {
                Kind::Empty => (Input::Prompt(String::new()), place),
                _ => (Input::Prompt(self.text(text, "`prompt`")?), place),
            },
            (None, Some((place, messages))) => (Input::Messages(self.messages(messages)?), place),
        };
        let empty = match &input {
            Input::Prompt(text) => text.trim().is_empty(),
            Input::Messages(messages) => messages.iter().all(|m| m.content.trim().is_empty()),
        };
        if empty {
            return Err(SuiteError::EmptyPrompt { place: place.clone(), id: id.to_owned() });
        }
        Ok(input)
    }

    fn messages(self, node: &'a Node) -> Result<Vec<Message>, SuiteError> {
        if matches!(node.value, Kind::Empty) {
            return Ok(Vec::new());
        }
        let hint = "write `- role: user` and `content: …` below it";
        let list = self.list(node, "`messages`", hint)?;
        list.iter().map(|item| self.message(item)).collect()
    }

    fn message(self, node: &'a Node) -> Result<Message, SuiteError> {
        let fields = self.fields(node, "a message", &["role", "content"], |_| None)?;
        let missing = |key, hint| SuiteError::Missing {
            place: self.place(node),
            what: "a message",
            key,
            hint,
        };
        let (_, role) = fields
            .get("role")
            .ok_or_else(|| missing("role", "write `role: system`, `user` or `assistant`"))?;
        let (_, content) = fields
            .get("content")
            .ok_or_else(|| missing("content", "write `content: …`, the message's text"))?;
        let name = self.text(role, "`role`")?;
        let Some(&known) = ROLES.iter().find(|known| **known == name) else {
            return Err(SuiteError::Value {
                place: self.place(role),
                what: "`role`".to_owned(),
                found: self.found(role),
                expected: "`system`, `user` or `assistant`",
                hint: match nearest(&name, ROLES) {
                    Some(near) => format!("did you mean `{near}`?").into(),
                    None => "who says it: the instructions, the person or the model".into(),
                },
            });
        };
        Ok(Message { role: known, content: self.text(content, "`content`")? })
    }

    fn references(self, fields: &Fields<'a>, id: &str) -> Result<Vec<String>, SuiteError> {
        let node = match (fields.get("references"), fields.get("reference")) {
            (None, None) => return Ok(Vec::new()),
            (Some(_), Some((place, _))) => {
                let keys = "references` and `reference";
                return Err(SuiteError::Both { place: place.clone(), id: id.to_owned(), keys });
            }
            (Some((_, node)), None) | (None, Some((_, node))) => node,
        };
        match &node.value {
            Kind::List(list) => list.iter().map(|item| self.text(item, "a reference")).collect(),
            Kind::Empty | Kind::Map(_) => Err(self.wrong(
                node,
                "`references`",
                "text, or a list of texts",
                "write `references: [\"…\"]`, or leave it out",
            )),
            _ => Ok(vec![self.text(node, "`references`")?]),
        }
    }
}
