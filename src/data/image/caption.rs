//! What a caption becomes at one visit of its example.

use super::Example;
use crate::base::random::Draws;
use crate::config::ImageDataSettings;

/// Where a caption has the trigger (ai-toolkit's placeholder).
pub(super) const TRIGGER: &str = "[trigger]";

/// The caption at one visit: one of several is drawn, prefix, suffix and trigger are put in; then, as
/// sd-scripts' `process_caption` does, it is left out, or its tags are shuffled behind the kept ones
/// and left out one by one.
///
/// As there, the prefix belongs to the first tag: `keep_tags` keeps it in front. The draws are: which
/// caption, whether it is left out, the shuffle, then each tag; the first two are always taken.
pub fn caption(example: &Example, settings: &ImageDataSettings, draws: &mut Draws) -> String {
    let picked = draws.below(example.captions.len().max(1));
    let is_dropped = draws.uniform() < settings.caption_dropout;
    if is_dropped {
        return String::new();
    }
    let text = example.captions.get(picked).map(String::as_str).unwrap_or_default();
    let text = framed(text, settings);
    if !is_random(settings) {
        return text;
    }
    let mut tags: Vec<&str> =
        text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
    let kept = settings.keep_tags.min(tags.len());
    let mut loose = tags.split_off(kept);
    if settings.shuffle_tags {
        for last in (1..loose.len()).rev() {
            loose.swap(last, draws.below(last + 1));
        }
    }
    if settings.tag_dropout > 0.0 {
        loose.retain(|_| draws.uniform() >= settings.tag_dropout);
    }
    tags.extend(loose);
    tags.join(", ")
}

/// The first caption with prefix, suffix and trigger, nothing drawn: for held-out examples.
pub fn plain_caption(example: &Example, settings: &ImageDataSettings) -> String {
    framed(example.captions.first().map(String::as_str).unwrap_or_default(), settings)
}

/// Whether captions have no few possible texts, because tags are shuffled or left out.
pub fn is_random(settings: &ImageDataSettings) -> bool {
    settings.shuffle_tags || settings.tag_dropout > 0.0
}

/// All texts that [`caption`] can give for an example, in order and each once, unless captions are
/// [random](is_random): those whose encodings a cache may hold.
pub fn possible_captions(example: &Example, settings: &ImageDataSettings) -> Vec<String> {
    let empty = (settings.caption_dropout > 0.0).then(String::new);
    let framed = example.captions.iter().map(|caption| framed(caption, settings));
    let mut texts: Vec<String> = framed.chain(empty).collect();
    texts.sort();
    texts.dedup();
    texts
}

/// Prefix, caption and suffix with a space between those that are not empty, and the trigger put in.
fn framed(caption: &str, settings: &ImageDataSettings) -> String {
    let parts = [settings.caption_prefix.as_str(), caption, &settings.caption_suffix];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let text = parts.join(" ");
    match &settings.trigger {
        Some(trigger) => text.replace(TRIGGER, trigger),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::super::test_settings;
    use super::*;
    use crate::base::random::Random;

    fn example(captions: &[&str]) -> Example {
        Example {
            picture: PathBuf::from("a.png"),
            captions: captions.iter().map(|&caption| caption.to_owned()).collect(),
            repeats: 1,
            source: None,
            class: false,
        }
    }

    fn drawn(example: &Example, settings: &ImageDataSettings) -> Vec<String> {
        let random = Random::new(1, "caption");
        (0..400).map(|visit| caption(example, settings, &mut random.at(0, visit, 0))).collect()
    }

    #[test]
    fn with_everything_off_a_caption_is_as_it_is() {
        let odd = example(&["a  star ,red,, \"big\" [trigger]"]);
        let settings = test_settings().image;
        assert!(drawn(&odd, &settings).iter().all(|text| *text == odd.captions[0]));
        assert_eq!(plain_caption(&odd, &settings), odd.captions[0]);
    }

    #[test]
    fn prefix_suffix_and_trigger_frame_it() {
        let settings = ImageDataSettings {
            caption_prefix: "photo of [trigger],".to_owned(),
            caption_suffix: "detailed".to_owned(),
            trigger: Some("sks".to_owned()),
            ..test_settings().image
        };
        let framed = "photo of sks, a sks star detailed";
        assert_eq!(plain_caption(&example(&["a [trigger] star"]), &settings), framed);
        assert_eq!(plain_caption(&example(&[""]), &settings), "photo of sks, detailed");
        assert_eq!(drawn(&example(&["a [trigger] star"]), &settings)[0], framed);
    }

    #[test]
    fn kept_tags_stay_in_front_and_the_others_are_shuffled() {
        let settings =
            ImageDataSettings { shuffle_tags: true, keep_tags: 1, ..test_settings().image };
        let texts: BTreeSet<String> =
            drawn(&example(&["sks, a,b ,, c"]), &settings).into_iter().collect();
        let all = ["a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"];
        assert_eq!(texts, all.map(|tags| format!("sks, {tags}")).into());
        let more = ImageDataSettings { keep_tags: 9, ..settings };
        assert!(drawn(&example(&["x, y"]), &more).iter().all(|text| text == "x, y"));
    }

    #[test]
    fn tags_are_left_out_as_often_as_asked_and_kept_ones_never() {
        let settings =
            ImageDataSettings { tag_dropout: 0.25, keep_tags: 1, ..test_settings().image };
        let texts = drawn(&example(&["sks, a, b"]), &settings);
        assert!(texts.iter().all(|text| text.starts_with("sks")));
        let without = texts.iter().filter(|text| !text.contains('a')).count();
        assert!((60..140).contains(&without), "{without} of 400");
        let none = ImageDataSettings { tag_dropout: 1.0, keep_tags: 0, ..settings };
        assert!(drawn(&example(&["a, b"]), &none).iter().all(String::is_empty));
    }

    #[test]
    fn captions_are_left_out_as_often_as_asked() {
        let settings = ImageDataSettings { caption_dropout: 0.1, ..test_settings().image };
        let empty = drawn(&example(&["a"]), &settings).iter().filter(|t| t.is_empty()).count();
        assert!((15..70).contains(&empty), "{empty} of 400");
        let always = ImageDataSettings { caption_dropout: 1.0, ..settings };
        assert!(drawn(&example(&["a"]), &always).iter().all(String::is_empty));
        assert_eq!(plain_caption(&example(&["a"]), &always), "a");
    }

    #[test]
    fn what_is_drawn_is_among_what_is_possible() {
        let settings = ImageDataSettings { caption_dropout: 0.3, ..test_settings().image };
        let several = example(&["one", "two", "one"]);
        assert_eq!(possible_captions(&several, &settings), ["", "one", "two"]);
        let texts: BTreeSet<String> = drawn(&several, &settings).into_iter().collect();
        assert!(texts.into_iter().eq(possible_captions(&several, &settings)));
        assert!(!is_random(&settings));
        assert!(is_random(&ImageDataSettings { shuffle_tags: true, ..settings }));
    }
}
