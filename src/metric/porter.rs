//! Porter's stemmer ("An algorithm for suffix stripping", Program 14.3, 1980) with NLTK's
//! extensions, which rouge-score uses: irregular forms, `y` and `-ies` after Porter's later notes.

/// A rule: an ending, what takes its place, and when.
type Rule = (&'static str, &'static str, fn(&[u8]) -> bool);

/// Words that the rules would treat wrongly.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// The stem of a word in lower-case ASCII; other characters count as consonants.
pub fn stem(word: &str) -> String {
    if let Some((_, known)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*known).to_owned();
    }
    if word.chars().count() <= 2 {
        return word.to_owned();
    }
    let steps = [step_1a, step_1b, step_1c, step_2, step_3, step_4, step_5a, step_5b];
    let stemmed = steps.iter().fold(word.as_bytes().to_vec(), |word, step| step(word));
    String::from_utf8(stemmed).unwrap_or_else(|_| word.to_owned())
}

/// For each letter whether it is a consonant; `y` is one at the start and after a vowel.
fn consonants(word: &[u8]) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word {
        flags.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// How many times a consonant follows a vowel.
fn measure(stem: &[u8]) -> usize {
    consonants(stem).windows(2).filter(|pair| matches!(pair, [false, true])).count()
}

fn has_measure(stem: &[u8]) -> bool {
    measure(stem) > 0
}

fn has_measure_2(stem: &[u8]) -> bool {
    measure(stem) > 1
}

fn has_vowel(stem: &[u8]) -> bool {
    consonants(stem).contains(&false)
}

fn always(_: &[u8]) -> bool {
    true
}

/// Consonant, vowel, consonant but w, x or y; or a word of vowel and consonant.
fn ends_short(word: &[u8]) -> bool {
    let flags = consonants(word);
    match flags.as_slice() {
        [false, true] => true,
        [.., true, false, true] => !matches!(word.last(), Some(b'w' | b'x' | b'y')),
        _ => false,
    }
}

fn ends_double(word: &[u8]) -> bool {
    matches!(word, [.., a, b] if a == b) && consonants(word).last() == Some(&true)
}

fn replaced(stem: &[u8], ending: &str) -> Vec<u8> {
    [stem, ending.as_bytes()].concat()
}

/// Applies the first rule whose ending fits; where its condition fails, none.
fn apply(word: Vec<u8>, rules: &[Rule]) -> Vec<u8> {
    for (ending, replacement, condition) in rules {
        if let Some(stem) = word.strip_suffix(ending.as_bytes()) {
            return if condition(stem) { replaced(stem, replacement) } else { word };
        }
    }
    word
}

fn step_1a(word: Vec<u8>) -> Vec<u8> {
    if word.len() == 4 && word.ends_with(b"ies") {
        return apply(word, &[("ies", "ie", always)]);
    }
    let rules: [Rule; 4] =
        [("sses", "ss", always), ("ies", "i", always), ("ss", "ss", always), ("s", "", always)];
    apply(word, &rules)
}

fn step_1b(word: Vec<u8>) -> Vec<u8> {
    if let Some(stem) = word.strip_suffix(b"ied") {
        return replaced(stem, if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix(b"eed") {
        return if has_measure(stem) { replaced(stem, "ee") } else { word };
    }
    let endings: [&[u8]; 2] = [b"ed", b"ing"];
    let stem = endings
        .iter()
        .find_map(|ending| word.strip_suffix(*ending).filter(|stem| has_vowel(stem)))
        .map(<[u8]>::to_vec);
    let Some(stem) = stem else { return word };
    let completed: [&[u8]; 3] = [b"at", b"bl", b"iz"];
    if completed.iter().any(|ending| stem.ends_with(ending)) {
        return replaced(&stem, "e");
    }
    if ends_double(&stem) {
        return match stem.split_last() {
            Some((last, shorter)) if !matches!(last, b'l' | b's' | b'z') => shorter.to_vec(),
            _ => stem,
        };
    }
    if measure(&stem) == 1 && ends_short(&stem) { replaced(&stem, "e") } else { stem }
}

fn step_1c(word: Vec<u8>) -> Vec<u8> {
    let after_consonant = |stem: &[u8]| stem.len() > 1 && consonants(stem).last() == Some(&true);
    match word.strip_suffix(b"y") {
        Some(stem) if after_consonant(stem) => replaced(stem, "i"),
        _ => word,
    }
}

fn step_2(word: Vec<u8>) -> Vec<u8> {
    let rules: [Rule; 21] = [
        ("ational", "ate", has_measure),
        ("tional", "tion", has_measure),
        ("enci", "ence", has_measure),
        ("anci", "ance", has_measure),
        ("izer", "ize", has_measure),
        ("bli", "ble", has_measure),
        ("alli", "al", has_measure),
        ("entli", "ent", has_measure),
        ("eli", "e", has_measure),
        ("ousli", "ous", has_measure),
        ("ization", "ize", has_measure),
        ("ation", "ate", has_measure),
        ("ator", "ate", has_measure),
        ("alism", "al", has_measure),
        ("iveness", "ive", has_measure),
        ("fulness", "ful", has_measure),
        ("ousness", "ous", has_measure),
        ("aliti", "al", has_measure),
        ("iviti", "ive", has_measure),
        ("biliti", "ble", has_measure),
        ("fulli", "ful", has_measure),
    ];
    if let Some(stem) = word.strip_suffix(b"alli")
        && has_measure(stem)
    {
        return step_2(replaced(stem, "al"));
    }
    // The condition is on what precedes `ogi`.
    if let Some(stem) = word.strip_suffix(b"logi") {
        let log = replaced(stem, "l");
        return if has_measure(&log) { replaced(&log, "og") } else { word };
    }
    apply(word, &rules)
}

fn step_3(word: Vec<u8>) -> Vec<u8> {
    let rules: [Rule; 7] = [
        ("icate", "ic", has_measure),
        ("ative", "", has_measure),
        ("alize", "al", has_measure),
        ("iciti", "ic", has_measure),
        ("ical", "ic", has_measure),
        ("ful", "", has_measure),
        ("ness", "", has_measure),
    ];
    apply(word, &rules)
}

fn step_4(word: Vec<u8>) -> Vec<u8> {
    let before_ion = |stem: &[u8]| has_measure_2(stem) && matches!(stem.last(), Some(b's' | b't'));
    let rules: [Rule; 19] = [
        ("al", "", has_measure_2),
        ("ance", "", has_measure_2),
        ("ence", "", has_measure_2),
        ("er", "", has_measure_2),
        ("ic", "", has_measure_2),
        ("able", "", has_measure_2),
        ("ible", "", has_measure_2),
        ("ant", "", has_measure_2),
        ("ement", "", has_measure_2),
        ("ment", "", has_measure_2),
        ("ent", "", has_measure_2),
        ("ion", "", before_ion),
        ("ou", "", has_measure_2),
        ("ism", "", has_measure_2),
        ("ate", "", has_measure_2),
        ("iti", "", has_measure_2),
        ("ous", "", has_measure_2),
        ("ive", "", has_measure_2),
        ("ize", "", has_measure_2),
    ];
    apply(word, &rules)
}

fn step_5a(word: Vec<u8>) -> Vec<u8> {
    match word.strip_suffix(b"e") {
        Some(stem) if has_measure_2(stem) || (measure(stem) == 1 && !ends_short(stem)) => {
            stem.to_vec()
        }
        _ => word,
    }
}

fn step_5b(word: Vec<u8>) -> Vec<u8> {
    match word.strip_suffix(b"l") {
        Some(stem) if stem.ends_with(b"l") && has_measure_2(stem) => stem.to_vec(),
        _ => word,
    }
}
