//! From a folder to examples, and what is wrong on the way.

use std::path::{Path, PathBuf};

use super::beside::is_numbered;
use super::caption::TRIGGER;
use super::files::{self, Listing, name};
use super::problem::{ProblemKind, Problems, first_error, notes};
use super::{Example, ImageSet, Layout, Problem};
use crate::base::terminal::printable;
use crate::config::DataSettings;
use crate::data::DataError;

/// The training examples.
pub fn read(settings: &DataSettings) -> Result<ImageSet, DataError> {
    read_folder(&settings.train, settings)
}

/// The examples of one of the settings' folders: [`scan`] that fails at the first problem that ends a
/// training. Its notes tell of all others.
pub fn read_folder(folder: &Path, settings: &DataSettings) -> Result<ImageSet, DataError> {
    let (set, problems) = scan(folder, settings)?;
    match first_error(&problems) {
        Some((first, more)) => Err(DataError::Item { first: Box::new(first), more }),
        None => Ok(set),
    }
}

/// The examples of one of the settings' folders, and everything that is wrong with single ones.
///
/// What the folder is follows from the settings: the list `metadata` belongs to the training folder,
/// examples of `regularization` are class pictures, those of `held_out` are seen once.
pub fn scan(folder: &Path, settings: &DataSettings) -> Result<(ImageSet, Vec<Problem>), DataError> {
    let listing = files::list(folder)?;
    let is_train = folder == settings.train;
    let is = |other: &Option<PathBuf>| !is_train && other.as_deref() == Some(folder);
    let mut scan = Scan {
        folder,
        settings,
        repeats: settings.repeats.max(1),
        once: is(&settings.held_out),
        class: is(&settings.regularization),
        examples: Vec::new(),
        problems: Problems::default(),
    };
    let metadata = settings.metadata.clone().filter(|_| is_train);
    let list = metadata.or_else(|| list_inside(folder));
    let layout = match &list {
        Some(list) => scan.list(list)?,
        None if is_numbered(&listing) => scan.numbered_folders(&listing)?,
        None => {
            scan.caption_files(&listing, None);
            scan.ignore_folders(&listing);
            Layout::CaptionFiles
        }
    };
    scan.finish(layout, list.as_deref(), &listing)
}

/// The list of a folder that has one; the first that is there counts.
fn list_inside(folder: &Path) -> Option<PathBuf> {
    let lists = ["metadata.csv", "metadata.jsonl", "metadata.parquet"];
    lists.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// A folder being read.
pub(super) struct Scan<'a> {
    pub folder: &'a Path,
    pub settings: &'a DataSettings,
    /// Of the examples that are added next.
    pub repeats: usize,
    pub examples: Vec<Example>,
    pub problems: Problems,
    /// Whether repeats do not count.
    once: bool,
    class: bool,
}

impl Scan<'_> {
    fn finish(
        mut self,
        layout: Layout,
        list: Option<&Path>,
        listing: &Listing,
    ) -> Result<(ImageSet, Vec<Problem>), DataError> {
        self.examples.sort_by(|a, b| files::by_bytes(&a.picture, &b.picture));
        self.triggers();
        let mut problems = self.problems.0;
        problems.sort();
        if self.examples.is_empty() && first_error(&problems).is_none() {
            let hint = no_pictures(listing, list);
            return Err(DataError::NoPictures { folder: self.folder.to_owned(), hint });
        }
        let count = self.examples.len();
        let (folder, from) = (self.folder.display(), layout.description());
        let mut all = vec![match list {
            Some(list) => format!("{folder}: {count} pictures, captions from {}", list.display()),
            None => format!("{folder}: {count} pictures, captions from {from}"),
        }];
        all.extend(unread_lists(self.folder, list));
        all.extend(notes(&problems));
        let folder = self.folder.to_owned();
        Ok((ImageSet { layout, folder, examples: self.examples, notes: all }, problems))
    }

    pub(super) fn add(
        &mut self,
        picture: PathBuf,
        captions: Vec<String>,
        source: Option<(PathBuf, usize)>,
    ) {
        let (repeats, class) = (if self.once { 1 } else { self.repeats }, self.class);
        self.examples.push(Example { picture, captions, repeats, source, class });
    }

    fn triggers(&mut self) {
        if self.settings.image.trigger.is_some() {
            return;
        }
        let has_place =
            |example: &&Example| example.captions.iter().any(|caption| caption.contains(TRIGGER));
        for example in self.examples.iter().filter(has_place) {
            let (path, line) = match &example.source {
                Some((path, line)) => (path, Some(*line)),
                None => (&example.picture, None),
            };
            let what = format!("`{TRIGGER}` in a caption, and no trigger is set");
            self.problems.add(ProblemKind::NoTrigger, path, line, name(&example.picture), what);
        }
    }
}

fn unread_lists(folder: &Path, read: Option<&Path>) -> Option<String> {
    let lists = ["metadata.csv", "metadata.jsonl", "metadata.json", "metadata.parquet"];
    let is_unread = |name: &&&str| {
        let path = folder.join(name);
        path.is_file() && read != Some(path.as_path())
    };
    let unread: Vec<&str> = lists.iter().filter(is_unread).copied().collect();
    let names = unread.join(", ");
    (!unread.is_empty())
        .then(|| format!("{names} not read; set `data.metadata` to the list that counts"))
}

fn no_pictures(listing: &Listing, list: Option<&Path>) -> String {
    if let Some(list) = list {
        return format!("{} has no rows; write one for each picture, or remove it", list.display());
    }
    let folder = listing.folders.iter().find(|folder| files::holds_pictures(folder));
    match (folder, listing.other_pictures.first()) {
        (Some(folder), _) => {
            let name = name(folder);
            let name = printable(&name);
            format!(
                "pictures are in `{name}`: name that folder, or rename it to `10_{name}` for ten repeats"
            )
        }
        (None, Some(other)) => format!("convert `{}` and its like to PNG", printable(&name(other))),
        (None, None) => "name the folder that holds the pictures".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::super::test_settings;
    use super::*;
    use crate::picture::{Picture, encode_png};

    /// A folder of pictures and other files.
    struct Folder(tempfile::TempDir);

    impl Folder {
        /// Names that end in `.png` get a picture of 2×1 pixels, others their text.
        fn of(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                folder.write(name, text.as_bytes());
            }
            folder
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let picture = Picture { width: 2, height: 1, rgb: vec![7; 6] };
            let png = encode_png(&picture, &[]).unwrap();
            let is_png = path.extension().is_some_and(|ending| ending == "png");
            fs::write(path, if is_png { &png } else { bytes }).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn settings(&self) -> DataSettings {
            DataSettings { train: self.0.path().to_owned(), ..test_settings() }
        }

        fn scan(&self) -> (ImageSet, Vec<Problem>) {
            scan(self.0.path(), &self.settings()).unwrap()
        }

        fn kinds(&self) -> Vec<(ProblemKind, String)> {
            self.scan().1.into_iter().map(|problem| (problem.kind, problem.item)).collect()
        }

        /// Names and captions.
        fn read(&self) -> Vec<(String, String)> {
            let set = read(&self.settings()).unwrap();
            self.names(&set)
        }

        fn names(&self, set: &ImageSet) -> Vec<(String, String)> {
            let name = |path: &Path| {
                let path = path.strip_prefix(self.0.path()).unwrap();
                path.to_string_lossy().replace('\\', "/")
            };
            let pair = |example: &Example| (name(&example.picture), example.captions.join("|"));
            set.examples.iter().map(pair).collect()
        }

        /// The error's text without the folder.
        fn error(&self, settings: &DataSettings) -> String {
            let error = read(settings).unwrap_err().to_string();
            error.replace(&*self.0.path().to_string_lossy(), "DIR")
        }
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn a_flat_folder_has_captions_beside_its_pictures() {
        let folder = Folder::of(&[
            ("b.png", ""),
            ("b.caption", "from caption"),
            ("a10.png", ""),
            ("a10.txt", " first line \nsecond\n"),
            ("a10.caption", "not this"),
            ("a9.png", ""),
            ("a9.txt", "nine"),
        ]);
        let set = read(&folder.settings()).unwrap();
        assert_eq!(set.layout, Layout::CaptionFiles);
        let expected = [("a10.png", "first line"), ("a9.png", "nine"), ("b.png", "from caption")];
        assert_eq!(folder.names(&set), pairs(&expected));
        assert_eq!(set.examples[0].source, Some((folder.path("a10.txt"), 1)));
        assert_eq!(set.notes.len(), 1, "{:?}", set.notes);
        assert!(set.notes[0].ends_with("3 pictures, captions from files beside the pictures"));
        assert_eq!(set.sizes().unwrap(), [(2, 1); 3]);
    }

    #[test]
    fn the_ending_of_captions_can_be_set() {
        let folder = Folder::of(&[("a.png", ""), ("a.txt", "text"), ("a.tags", "tags")]);
        for (ending, caption) in [(".tags", "tags"), ("tags", "tags"), ("txt", "text")] {
            let mut settings = folder.settings();
            settings.image.caption_extension = Some(ending.to_owned());
            assert_eq!(read(&settings).unwrap().examples[0].captions, [caption]);
        }
        let mut settings = folder.settings();
        settings.image.caption_extension = Some("/../x".to_owned());
        let (set, problems) = scan(folder.0.path(), &settings).unwrap();
        assert_eq!(set.examples[0].captions, [""]);
        assert_eq!(problems[0].kind, ProblemKind::CaptionNotRead);
    }

    #[test]
    fn what_a_flat_folder_lacks_is_said() {
        let folder = Folder::of(&[
            ("a.png", ""),
            ("b.png", ""),
            ("b.tags", "x"),
            ("c.png", ""),
            ("c.txt", "\n later"),
            ("d.txt", "no picture"),
            ("e.bmp", ""),
            ("e.txt", "of a bmp"),
            ("f.png", ""),
            ("f.png.txt", "x"),
            ("inside/g.png", ""),
            ("notes/readme.txt", "no pictures here"),
        ]);
        let kinds = folder.kinds();
        let expected = [
            (ProblemKind::NoCaption, "a.png"),
            (ProblemKind::CaptionNotRead, "b.tags"),
            (ProblemKind::EmptyCaption, "c.txt"),
            (ProblemKind::NoPicture, "d.txt"),
            (ProblemKind::IgnoredPicture, "e.bmp"),
            (ProblemKind::CaptionNotRead, "f.png.txt"),
            (ProblemKind::IgnoredFolder, "inside"),
        ];
        assert_eq!(kinds, expected.map(|(kind, item)| (kind, item.to_owned())));
        let set = read(&folder.settings()).unwrap();
        assert_eq!(set.examples.len(), 4);
        assert!(set.notes.iter().any(|note| note.starts_with(
            "caption files that are not read: 2 (`b.tags`, `f.png.txt`); set `data.image.caption_extension`"
        )));
    }

    #[test]
    fn a_caption_of_another_encoding_is_an_error_with_its_byte() {
        let folder = Folder::of(&[("a.png", ""), ("b.png", ""), ("c.png", ""), ("c.txt", "c")]);
        folder.write("a.txt", b"caf\xe9");
        folder.write("b.txt", b"\xff\xfea\0");
        assert_eq!(
            folder.error(&folder.settings()),
            "DIR/a.txt:1: byte 4 is 0xE9, expected UTF-8 text\n\
             further captions that are not UTF-8: 1 (`b.txt`)\nhint: save the caption as UTF-8"
        );
        let (set, problems) = folder.scan();
        assert_eq!((set.examples.len(), problems.len()), (3, 2));
        folder.write("a.txt", b"\xef\xbb\xbfmarked");
        folder.write("b.txt", b"b");
        assert_eq!(folder.read()[0].1, "marked");
        assert_eq!(folder.kinds(), [(ProblemKind::ByteOrderMark, "a.txt".to_owned())]);
    }

    #[test]
    fn numbered_folders_repeat_and_name_their_class() {
        let folder = Folder::of(&[
            ("10_sks dog/b.png", ""),
            ("10_sks dog/a.png", ""),
            ("10_sks dog/a.txt", "a dog"),
            ("3/c.png", ""),
            ("old/d.png", ""),
            ("0_none/e.png", ""),
            ("10_sks dog/deep/f.png", ""),
        ]);
        let mut settings = folder.settings();
        settings.repeats = 2;
        let set = read(&settings).unwrap();
        assert_eq!(set.layout, Layout::NumberedFolders);
        let expected =
            [("10_sks dog/a.png", "a dog"), ("10_sks dog/b.png", "sks dog"), ("3/c.png", "")];
        assert_eq!(folder.names(&set), pairs(&expected));
        let repeats: Vec<usize> = set.examples.iter().map(|example| example.repeats).collect();
        assert_eq!(repeats, [20, 20, 6]);
        let ignored: Vec<String> = folder
            .kinds()
            .into_iter()
            .filter(|(kind, _)| *kind == ProblemKind::IgnoredFolder)
            .map(|(_, item)| item)
            .collect();
        assert_eq!(ignored, ["0_none", "deep", "old"]);
    }

    #[test]
    fn pictures_beside_numbered_folders_are_said_and_a_bare_number_beside_pictures_is_no_repeat() {
        let beside = Folder::of(&[("2_x/a.png", ""), ("2_x/a.txt", "a"), ("b.png", "")]);
        assert_eq!(beside.kinds(), [(ProblemKind::IgnoredPicture, "b.png".to_owned())]);
        let copies = Folder::of(&[("a.png", ""), ("a.txt", "a"), ("512/a.png", "")]);
        assert_eq!(copies.read(), pairs(&[("a.png", "a")]));
    }

    #[test]
    fn a_csv_comes_first_and_its_pictures_may_lie_deeper() {
        let folder = Folder::of(&[
            ("metadata.csv", "file_name,text\nb.png,\"two, parts\"\nsub/a.png,one\n"),
            ("metadata.jsonl", "{}"),
            ("sub/a.png", ""),
            ("b.png", ""),
            ("b.txt", "not this"),
            ("c.png", ""),
        ]);
        let set = read(&folder.settings()).unwrap();
        assert_eq!(set.layout, Layout::Csv);
        assert_eq!(folder.names(&set), pairs(&[("b.png", "two, parts"), ("sub/a.png", "one")]));
        assert_eq!(set.examples[1].source, Some((folder.path("metadata.csv"), 3)));
        assert!(set.notes[1].starts_with("metadata.jsonl not read"), "{:?}", set.notes);
        assert!(set.notes[2].starts_with("pictures that the list does not name: 1 (`c.png`)"));
    }

    #[test]
    fn json_lines_give_several_captions() {
        let folder = Folder::of(&[
            (
                "metadata.jsonl",
                "{\"file_name\": \"a.png\", \"text\": [\"one\", \"two\"]}\n\
                 {\"file_name\": \"b.png\", \"text\": \"b\"}\n",
            ),
            ("a.png", ""),
            ("b.png", ""),
        ]);
        assert_eq!(folder.read(), pairs(&[("a.png", "one|two"), ("b.png", "b")]));
        assert_eq!(folder.scan().0.layout, Layout::JsonLines);
    }

    #[test]
    fn metadata_elsewhere_is_read_for_the_training_folder_alone() {
        let folder = Folder::of(&[("x/a.png", ""), ("b.png", ""), ("b.txt", "beside")]);
        let elsewhere = Folder::of(&[]);
        let absolute = folder.path("b.png");
        let list = serde_json::json!({
            "x/a": {"caption": "a star", "tags": "red"},
            absolute.to_str().unwrap(): "absolute",
        });
        elsewhere.write("list.json", list.to_string().as_bytes());
        let settings = DataSettings {
            metadata: Some(elsewhere.path("list.json")),
            regularization: Some(folder.path("x")),
            ..folder.settings()
        };
        let set = read(&settings).unwrap();
        assert_eq!(set.layout, Layout::Json);
        assert_eq!(folder.names(&set), pairs(&[("b.png", "absolute"), ("x/a.png", "a star, red")]));
        let class = read_folder(&folder.path("x"), &settings).unwrap();
        assert_eq!(class.layout, Layout::CaptionFiles);
        assert!(class.examples.iter().all(|example| example.class));
    }

    #[test]
    fn held_out_pictures_are_seen_once() {
        let folder = Folder::of(&[("train/a.png", ""), ("held/5_x/b.png", "")]);
        let settings = DataSettings {
            train: folder.path("train"),
            held_out: Some(folder.path("held")),
            repeats: 4,
            ..test_settings()
        };
        assert_eq!(read(&settings).unwrap().examples[0].repeats, 4);
        let held_out = read_folder(&folder.path("held"), &settings).unwrap();
        assert_eq!(held_out.examples[0].repeats, 1);
    }

    #[test]
    fn missing_pictures_are_counted_and_the_first_are_named() {
        let rows = "file_name,text\na.png,a\nb.png,b\nc.png,c\nd.png,d\ne.png,e\nf.png,f\n";
        let folder = Folder::of(&[("metadata.csv", rows), ("a.png", "")]);
        assert_eq!(
            folder.error(&folder.settings()),
            "DIR/metadata.csv:3: picture `b.png` is not there\n\
             further missing pictures: 4 (`c.png`, `d.png`, `e.png` and 1 more)\n\
             hint: names are relative to the folder of pictures; remove the row or add the picture"
        );
    }

    #[test]
    fn lists_lead_nowhere_but_into_the_folder() {
        let outside = Folder::of(&[("a.png", "")]);
        let absolute = outside.path("a.png");
        let names = ["../a.png", "x/../../a.png", "/etc/a.png", "..\\a.png", "."];
        for name in names.into_iter().chain(absolute.to_str()) {
            let rows = format!("file_name,text\n\"{name}\",x\n");
            let folder = Folder::of(&[("metadata.csv", &rows), ("b.png", "")]);
            let problems = folder.scan().1;
            let outside = problems.iter().find(|problem| problem.line == Some(2)).unwrap();
            assert_eq!(outside.kind, ProblemKind::Outside, "{name}");
        }
        let folder =
            Folder::of(&[("metadata.csv", "file_name,text\n./x\\a.png,one\n"), ("x/a.png", "")]);
        assert_eq!(folder.read(), pairs(&[("x/a.png", "one")]));
    }

    #[test]
    fn rows_of_one_picture_are_its_captions() {
        let rows = "file_name,text\na.png,one\na.png,two\na.png,one\nb.png,\n";
        let folder = Folder::of(&[("metadata.csv", rows), ("a.png", ""), ("b.png", "")]);
        assert_eq!(folder.read(), pairs(&[("a.png", "one|two"), ("b.png", "")]));
        let problems = folder.scan().1;
        let said: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!(
            said,
            [
                "`a.png` has a row in line 2 too",
                "`a.png` has a row in line 2 too",
                "`b.png` has an empty caption"
            ]
        );
    }

    #[test]
    fn a_trigger_s_place_without_a_trigger_is_said() {
        let folder = Folder::of(&[("a.png", ""), ("a.txt", "a [trigger] star")]);
        assert_eq!(folder.kinds(), [(ProblemKind::NoTrigger, "a.png".to_owned())]);
        let mut settings = folder.settings();
        settings.image.trigger = Some("sks".to_owned());
        assert_eq!(scan(folder.0.path(), &settings).unwrap().1, []);
    }

    #[test]
    fn folders_without_pictures_say_what_to_do() {
        let end = |folder: &Folder| {
            let text = folder.error(&folder.settings());
            text.split_once("hint: ").unwrap().1.to_owned()
        };
        assert_eq!(end(&Folder::of(&[])), "name the folder that holds the pictures");
        assert_eq!(
            end(&Folder::of(&[("a.bmp", ""), ("a.txt", "x")])),
            "convert `a.bmp` and its like to PNG"
        );
        assert_eq!(
            end(&Folder::of(&[("dogs/a.png", "")])),
            "pictures are in `dogs`: name that folder, or rename it to `10_dogs` for ten repeats"
        );
        assert!(end(&Folder::of(&[("metadata.parquet", "")])).starts_with("convert it: python"));
        let no_rows = Folder::of(&[("metadata.csv", "file_name,text\n"), ("a.png", "")]);
        assert!(end(&no_rows).starts_with("DIR/metadata.csv has no rows"));
        let missing = DataSettings { train: PathBuf::from("no/such"), ..test_settings() };
        assert!(read(&missing).unwrap_err().to_string().starts_with("no/such: "));
    }

    #[test]
    fn lists_that_are_no_text_are_errors() {
        let folder = Folder::of(&[("a.png", "")]);
        folder.write("metadata.csv", b"\xff\xfef\0i\0");
        assert_eq!(
            folder.error(&folder.settings()),
            "DIR/metadata.csv: UTF-16 text, expected UTF-8 text\n\
             hint: save it as UTF-8 (Excel: `CSV UTF-8`)"
        );
        folder.write("metadata.csv", b"\xef\xbb\xbffile_name,text\na.png,a\n");
        assert_eq!(folder.read(), pairs(&[("a.png", "a")]));
        assert_eq!(folder.kinds(), [(ProblemKind::ByteOrderMark, "metadata.csv".to_owned())]);
    }

    proptest! {
        #[test]
        fn whatever_a_list_or_a_caption_holds_nothing_panics(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "(file_name,text|a\\.png,|\"|,|\n|\r\n|b\\.png|;|x| ){0,30}"
                    .prop_map(String::into_bytes),
                "(\\{|\\}|\\[|\\]|\"file_name\"|\"a\\.png\"|:|,|\"text\"|\n|1){0,30}"
                    .prop_map(String::into_bytes),
            ],
        ) {
            let folder = Folder::of(&[("a.png", ""), ("b.png", ""), ("x.txt", "")]);
            folder.write("a.txt", &text);
            scan(folder.0.path(), &folder.settings()).unwrap();
            for name in ["list.csv", "list.jsonl", "list.json"] {
                folder.write(name, &text);
                let metadata = Some(folder.path(name));
                let settings = DataSettings { metadata, ..folder.settings() };
                if let Ok((set, _)) = scan(folder.0.path(), &settings) {
                    prop_assert!(set.examples.iter().all(|example| !example.captions.is_empty()));
                }
            }
        }
    }
}
