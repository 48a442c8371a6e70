//! Pictures and captions.

mod captions;
mod item;
mod problems;
mod sizes;
mod twins;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use self::item::{Item, Look};
use self::problems::Lists;
use self::twins::Twin;
use super::{Finding, Fixes, LintError, Place, Report, rules};
use crate::config::{DataSettings, ImageDataSettings};
use crate::data::image::{Example, possible_captions, scan};
use crate::text::ClipTokenizer;

/// What an unreadable picture is answered with.
const REPLACE: &str = "get the file again, or save it as PNG in another program";

/// Checks all folders of pictures that the settings name.
pub fn lint(data: &DataSettings) -> Result<Report, LintError> {
    let folders = [Some(&data.train), data.held_out.as_ref(), data.regularization.as_ref()];
    let roots: Vec<PathBuf> =
        folders.into_iter().flatten().chain(&data.metadata).cloned().collect();
    let (lists, fixes) = (Lists::default(), Fixes::new(roots));
    let (notes, findings) = (Vec::new(), Vec::new());
    let mut check = Check { data, lists, fixes, notes, findings, examples: 0 };
    let mut items = check.folder(&data.train, false)?;
    if let Some(folder) = &data.held_out {
        items.extend(check.folder(folder, true)?);
    }
    // Pictures of a class may all have its name for a caption: only their files are checked.
    if let Some(folder) = &data.regularization {
        check.folder(folder, false)?;
    }
    check.captions_and_sizes(&items)?;
    check.twins(&items);
    let Check { notes, examples, findings, fixes, .. } = check;
    Ok(Report::new(notes, examples, findings, fixes))
}

/// A check as it goes on.
struct Check<'a> {
    data: &'a DataSettings,
    lists: Lists,
    fixes: Fixes,
    notes: Vec<String>,
    findings: Vec<Finding>,
    examples: usize,
}

impl Check<'_> {
    /// Reads a folder and decodes its pictures on all threads.
    fn folder(&mut self, folder: &Path, held_out: bool) -> Result<Vec<Item>, LintError> {
        let examples = self.examples(folder)?;
        self.examples += examples.len();
        let settings = ImageDataSettings { caption_dropout: 0.0, ..self.data.image.clone() };
        let read: Vec<(Item, Option<String>)> = examples
            .into_par_iter()
            .map(|example| {
                let captions = possible_captions(&example, &settings);
                let Example { picture, source, .. } = example;
                let (look, fault) = match Look::read(&picture) {
                    Ok(look) => (Some(look), None),
                    Err(fault) => (None, Some(fault)),
                };
                (Item { picture, captions, source, held_out, look }, fault)
            })
            .collect();
        let (items, faults): (Vec<Item>, Vec<Option<String>>) = read.into_iter().unzip();
        for (item, fault) in items.iter().zip(faults) {
            let place = Place::file(&item.picture);
            let finding = |what| Finding::error(&rules::UNREADABLE_PICTURE, place, what);
            self.findings.extend(fault.map(|what| finding(what).advice(REPLACE)));
        }
        Ok(items)
    }

    /// The examples of a folder; what the reader says of the others is found.
    fn examples(&mut self, folder: &Path) -> Result<Vec<Example>, LintError> {
        let (set, problems) = match scan(folder, self.data) {
            Ok(found) => found,
            Err(error) => {
                self.findings.push(problems::of_list(error, &mut self.fixes)?);
                return Ok(Vec::new());
            }
        };
        // the first says what was read, the others count what becomes findings here
        self.notes.extend(set.notes.into_iter().take(1));
        self.lists.note(&problems);
        let is_class = self.data.regularization.as_deref() == Some(folder);
        for problem in problems {
            if !(is_class && problems::is_about_caption(&problem)) {
                self.findings.push(self.lists.finding(&problem, &mut self.fixes));
            }
        }
        Ok(set.examples)
    }

    fn captions_and_sizes(&mut self, items: &[Item]) -> Result<(), LintError> {
        let (settings, folder) = (&self.data.image, Place::file(&self.data.train));
        let clip = ClipTokenizer::openai()?;
        self.findings.extend(captions::long(items, settings, &clip)?);
        self.findings.extend(captions::same(items, &folder));
        self.findings.extend(captions::trigger(items, settings, &folder, &clip)?);
        self.findings.extend(sizes::sizes(items, settings));
        Ok(())
    }

    fn twins(&mut self, items: &[Item]) {
        let mut uses: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for file in items.iter().filter_map(|item| item.picture.canonicalize().ok()) {
            *uses.entry(file).or_default() += 1;
        }
        // what is a link's file and an example of its own stays where it is
        let is_alone = |item: &&Item| {
            item.picture.canonicalize().is_ok_and(|file| uses.get(&file).is_some_and(|n| *n < 2))
        };
        for Twin { at, mut finding } in twins::twins(items) {
            let item = items.get(at).filter(|_| finding.fixable).filter(is_alone);
            finding.fixable = item.is_some_and(|item| self.take_out(item, items));
            self.findings.push(finding);
        }
    }

    /// Plans to take out a picture with its caption. Not done where its caption cannot go alone.
    fn take_out(&mut self, item: &Item, items: &[Item]) -> bool {
        if let Some((file, line)) = &item.source {
            let is_beside = file.with_extension("") == item.picture.with_extension("");
            let has_it =
                |item: &&Item| item.source.as_ref().is_some_and(|(other, _)| other == file);
            if !is_beside && !self.lists.may_lose_rows(file) {
                return false;
            }
            if !is_beside {
                self.fixes.drop_row(file, *line);
            } else if items.iter().filter(has_it).count() == 1 {
                self.fixes.remove(file);
            }
        }
        self.fixes.remove(&item.picture);
        true
    }
}
