//! The report on pictures: small ones in the page, links to whole ones, and what is said where there
//! is none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use html5ever::tendril::TendrilSink as _;
use image::{Rgb, RgbImage};
use lora_eval::grid::{FakeBackend, Options, Plan, Request, execute};
use lora_eval::report::{RunView, render, render_in};
use lora_eval::run::{
    AdapterAt, BaseRecord, Better, Cell, FORMAT, MetricScores, PlanRecord, Run, RunKind, RunRecord,
    ScoreRow, Scores, Shard,
};
use lora_eval::suite::Suite;
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use serde_json::json;

const STRENGTHS: [f64; 3] = [0.0, 0.5, 1.0];

/// A run of two prompts in each of two groups whose pictures lie in `folder`. Each prompt is a shade
/// of its own that the strength makes lighter; the second prompt of a group changes most. Every text
/// holds `text`.
fn run(folder: &Path, text: &str) -> RunView {
    fs::create_dir_all(folder.join("outputs")).unwrap();
    let mut cells = Vec::new();
    for (place, (group, id)) in
        [("heldout", "h1"), ("heldout", "h2"), ("base", "b1"), ("base", "b2")].iter().enumerate()
    {
        for strength in STRENGTHS {
            let change = strength * if id.ends_with('2') { 80.0 } else { 20.0 };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let shade = 20 * (place as u8) + change as u8;
            let name = format!("outputs/{id}-{strength}.png");
            RgbImage::from_pixel(40, 30, Rgb([shade, 90, 120])).save(folder.join(&name)).unwrap();
            cells.push(Cell {
                cell: format!("{id}{strength}"),
                prompt_id: format!("{id}{text}"),
                group: (*group).to_owned(),
                prompt: format!("p{id}{text}q"),
                strength,
                adapters: vec![AdapterAt {
                    name: text.to_owned(),
                    strength,
                    text_encoder: None,
                    blocks: Vec::new(),
                }],
                axes: BTreeMap::new(),
                seed: 7,
                output: name,
                finish: Some(format!("f{text}")),
                prompt_tokens: None,
                tokens: None,
                truncated: 0,
                batch: None,
                features: BTreeMap::new(),
                scores: BTreeMap::from([("ssim".to_owned(), 1.0 - change / 100.0)]),
                seconds: 0.5,
            });
        }
    }
    let prompts: Vec<_> = ["h1", "h2", "b1", "b2"]
        .iter()
        .map(
            |id| json!({"id": format!("{id}{text}"), "settings": {"negative": format!("n{text}")}}),
        )
        .collect();
    RunView {
        title: format!("run{text}"),
        path: folder.to_owned(),
        missing: Vec::new(),
        ablation: None,
        verdict: None,
        record: record(text, &prompts, &cells),
        scores: scores(text, cells.len()),
        cells,
    }
}

fn record(text: &str, prompts: &[serde_json::Value], cells: &[Cell]) -> RunRecord {
    RunRecord {
        format: FORMAT,
        program: format!("lora-eval{text}"),
        kind: RunKind::Image,
        created: "2026-11-25".to_owned(),
        suite: json!({"name": format!("suite{text}"), "prompts": prompts}),
        suite_sha256: "5".to_owned(),
        base: BaseRecord {
            name: format!("base{text}"),
            description: format!("Diffusion{text}"),
            sha256: "6".to_owned(),
            vae: None,
        },
        adapters: Vec::new(),
        strengths: STRENGTHS.to_vec(),
        seeds: vec![7],
        axes: BTreeMap::new(),
        settings: BTreeMap::from([
            ("steps".to_owned(), json!(20)),
            ("sampler".to_owned(), json!(format!("euler{text}"))),
        ]),
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        judges: BTreeMap::new(),
        max_batch: None,
        plan: PlanRecord {
            sha256: "8".to_owned(),
            cells: cells.iter().map(|cell| cell.cell.clone()).collect(),
        },
    }
}

fn scores(text: &str, present: usize) -> Scores {
    let row = |group: &str, strength: f64| ScoreRow {
        group: group.to_owned(),
        strength,
        axes: BTreeMap::new(),
        value: Some(1.0 - strength / 2.0),
        low: None,
        high: None,
        n: 2,
        p: None,
        identical: false,
    };
    let rows = ["heldout", "base"].iter().flat_map(|g| STRENGTHS.map(|s| row(g, s)));
    let metric = MetricScores {
        metric: "ssim".to_owned(),
        label: format!("SSIM{text}"),
        about: format!("about{text}"),
        unit: String::new(),
        better: Better::Higher,
        signature: format!("s{text}"),
        rows: rows.collect(),
    };
    Scores { format: FORMAT, planned: present, present, metrics: vec![metric], notes: vec![] }
}

fn walk(node: &Handle, depth: usize, visit: &mut dyn FnMut(&Handle, usize)) {
    visit(node, depth);
    for child in node.children.borrow().iter() {
        walk(child, depth + 1, visit);
    }
}

fn parse(html: &str) -> RcDom {
    html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html)
}

/// Attributes of every element that is a `tag`.
fn elements(html: &str, tag: &str) -> Vec<BTreeMap<String, String>> {
    let mut found = Vec::new();
    walk(&parse(html).document, 0, &mut |node, _| {
        if let NodeData::Element { name, attrs, .. } = &node.data
            && &*name.local == tag
        {
            let pair = |a: &html5ever::Attribute| (a.name.local.to_string(), a.value.to_string());
            found.push(attrs.borrow().iter().map(pair).collect());
        }
    });
    found
}

/// Every element with its depth and the names of its attributes.
fn skeleton(html: &str) -> String {
    let mut out = String::new();
    walk(&parse(html).document, 0, &mut |node, depth| {
        if let NodeData::Element { name, attrs, .. } = &node.data {
            let names: Vec<String> =
                attrs.borrow().iter().map(|a| a.name.local.to_string()).collect();
            let _ = writeln!(out, "{depth} {} {}", name.local, names.join(" "));
        }
    });
    out
}

/// All text of the page, style and script included.
fn words(html: &str) -> String {
    let mut out = String::new();
    walk(&parse(html).document, 0, &mut |node, _| {
        if let NodeData::Text { contents } = &node.data {
            out.push_str(&contents.borrow());
        }
    });
    out
}

/// Thumbnails and links of the grid.
fn grid(html: &str) -> Vec<(BTreeMap<String, String>, BTreeMap<String, String>)> {
    let with_class = |all: Vec<BTreeMap<String, String>>, class: &str| {
        all.into_iter().filter(|e| e.get("class").is_some_and(|c| c.starts_with(class))).collect()
    };
    let links: Vec<_> = with_class(elements(html, "a"), "pic");
    let pictures = elements(html, "img").into_iter().filter(|img| img.contains_key("loading"));
    links.into_iter().zip(pictures).collect()
}

#[test]
fn pictures_are_small_inside_and_linked_whole() {
    let folder = tempfile::tempdir().unwrap();
    let view = run(folder.path(), "x");
    RgbImage::from_pixel(512, 384, Rgb([1, 2, 3]))
        .save(folder.path().join("outputs/h1-0.png"))
        .unwrap();
    let all = grid(&render(&[view]).unwrap());
    assert_eq!(all.len(), 12);
    let (link, small) = all.iter().find(|(a, _)| a["href"] == "outputs/h1-0.png").unwrap();
    assert_eq!(link["class"], "pic");
    assert_eq!((small["width"].as_str(), small["height"].as_str()), ("256", "192"));
    assert_eq!(small["loading"], "lazy");
    assert_eq!(small["alt"], "ph1xq, strength 0");
    let data = small["src"].strip_prefix("data:image/webp;base64,").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    let again = image::load_from_memory(&bytes).unwrap().into_rgb8();
    assert_eq!(again, RgbImage::from_pixel(256, 192, Rgb([1, 2, 3])));
    // one that is small stays as large as it is
    let (link, small) = all.iter().find(|(a, _)| a["href"] == "outputs/h1-0.5.png").unwrap();
    assert_eq!((link["class"].as_str(), small["width"].as_str()), ("pic tiny", "40"));
}

#[test]
fn a_picture_that_cannot_be_shown_says_so_in_its_place() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("run");
    let mut view = run(&folder, "x");
    fs::remove_file(folder.join("outputs/h1-0.png")).unwrap();
    let png = fs::read(folder.join("outputs/h2-0.png")).unwrap();
    fs::write(folder.join("outputs/h2-0.png"), &png[..png.len() / 2]).unwrap();
    fs::write(folder.join("outputs/b1-0.png"), "<svg onload=alert(1)>").unwrap();
    let outside = view.cells.iter_mut().find(|cell| cell.cell == "b20").unwrap();
    outside.output = "../secret.png".to_owned();
    fs::write(root.path().join("secret.png"), &png).unwrap();
    let html = render(&[view]).unwrap();
    let shown = words(&html);
    assert_eq!(grid(&html).len(), 8);
    for wanted in [
        "its picture `outputs/h1-0.png` is missing",
        "its output `../secret.png` is not below the run",
    ] {
        assert!(shown.contains(wanted), "{wanted}");
    }
    assert_eq!(shown.matches("its picture cannot be read").count(), 2);
    // what the other cells are compared with is gone, and they do not claim to be like it
    assert!(!shown.contains("= same as base"));
}

#[test]
fn a_picture_that_was_made_again_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut view = run(folder.path(), "x");
    for cell in &mut view.cells {
        cell.finish = (cell.cell == "h11").then(|| "nan-retried".to_owned());
    }
    let shown = words(&render(&[view]).unwrap());
    assert_eq!(shown.matches("made again in f32").count(), 1);
}

#[test]
fn equal_pixels_are_called_the_same_whatever_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let view = run(folder.path(), "x");
    let base = image::open(folder.path().join("outputs/h1-0.png")).unwrap();
    let path = folder.path().join("outputs/h1-1.png");
    let file = fs::File::create(&path).unwrap();
    let bytes_of = |path: &Path| fs::read(path).unwrap();
    base.write_with_encoder(image::codecs::png::PngEncoder::new_with_quality(
        file,
        image::codecs::png::CompressionType::Uncompressed,
        image::codecs::png::FilterType::NoFilter,
    ))
    .unwrap();
    assert_ne!(bytes_of(&path), bytes_of(&folder.path().join("outputs/h1-0.png")));
    assert_eq!(words(&render(&[view]).unwrap()).matches("= same as base").count(), 1);
}

#[cfg(unix)]
#[test]
fn links_stay_below_the_run_whatever_the_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut view = run(folder.path(), "x");
    let name = "javascript:alert(1)?#\"<b>";
    fs::copy(folder.path().join("outputs/h1-0.png"), folder.path().join(name)).unwrap();
    view.cells[0].output = name.to_owned();
    let links: Vec<String> =
        grid(&render(&[view]).unwrap()).into_iter().map(|(a, _)| a["href"].clone()).collect();
    assert!(links.contains(&"javascript%3Aalert%281%29%3F%23%22%3Cb%3E".to_owned()), "{links:?}");
}

#[test]
fn a_report_that_lies_elsewhere_links_to_where_the_runs_are() {
    let folder = tempfile::tempdir().unwrap();
    let views = ["one", "a second"].map(|name| run(&folder.path().join(name), "x"));
    fs::create_dir(folder.path().join("reports")).unwrap();
    let html = render_in(&folder.path().join("reports"), &views).unwrap();
    let links: Vec<String> = grid(&html).into_iter().map(|(a, _)| a["href"].clone()).collect();
    assert_eq!(links.len(), 24);
    assert!(links[..12].iter().all(|link| link.starts_with("../one/outputs/")), "{links:?}");
    assert!(links[12..].iter().all(|link| link.starts_with("../a%20second/outputs/")));
    assert!(html.contains("id=\"grid-0\"") && html.contains("id=\"grid-1\""));
}

#[test]
fn rows_have_their_group_and_their_place_by_likeness() {
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[run(folder.path(), "x")]).unwrap();
    let rows: Vec<_> =
        elements(&html, "div").into_iter().filter(|row| row.contains_key("data-unlike")).collect();
    let place =
        |row: &BTreeMap<String, String>| (row["data-group"].clone(), row["data-unlike"].clone());
    // rows of the suite's order h1, h2, b1, b2, where h2 and b2 change most
    let by_suite: BTreeMap<String, _> =
        rows.iter().map(|row| (row["data-suite"].clone(), place(row))).collect();
    let expected = [("0", "1"), ("0", "0"), ("1", "3"), ("1", "2")];
    let expected: Vec<_> = expected.map(|(g, p)| (g.to_owned(), p.to_owned())).to_vec();
    assert_eq!(by_suite.into_values().collect::<Vec<_>>(), expected);
    let heads =
        elements(&html, "div").into_iter().filter(|e| e.get("class").is_some_and(|c| c == "group"));
    assert_eq!(heads.count(), 2);
    assert!(words(&html).contains("least like the base (SSIMx)"));
}

#[test]
fn change_is_bad_for_base_prompts_only() {
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[run(folder.path(), "x")]).unwrap();
    let tones = |prompt: &str| {
        let row =
            html.split("role=\"row\"").find(|row| row.contains(&format!("p{prompt}xq"))).unwrap();
        row.matches("class=\"sc bad\"").count()
    };
    assert_eq!((tones("h2"), tones("b2")), (0, 3));
}

#[test]
fn whole_pictures_come_from_the_folder_of_the_report_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[run(folder.path(), "x")]).unwrap();
    assert!(html.contains("img-src &#x27;self&#x27; data:; "));
    let sources =
        |tag: &str| elements(&html, tag).into_iter().filter_map(|e| e.get("src").cloned());
    assert!(sources("img").all(|src| src.starts_with("data:image/")));
    assert_eq!(sources("script").count(), 0);
    // the namespace of the icon
    assert_eq!(html.matches("http://").count(), 1);
    let forbidden = |attribute: &str| attribute == "style" || attribute.starts_with("on");
    assert!(!skeleton(&html).lines().any(|l| l.split(' ').skip(2).any(forbidden)));
}

#[test]
fn the_script_of_the_page_is_the_one_that_its_policy_names() {
    use sha2::Digest as _;
    let folder = tempfile::tempdir().unwrap();
    let html = render(&[run(folder.path(), "x")]).unwrap();
    let script = html.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    assert!(script.contains("globalCompositeOperation"));
    let hash = base64::engine::general_purpose::STANDARD
        .encode(sha2::Sha256::digest(script.as_bytes()))
        .replace('/', "&#x2f;");
    assert!(html.contains(&format!("script-src &#x27;sha256-{hash}&#x27;")));
}

#[test]
fn commands_make_the_picture_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut view = run(folder.path(), "");
    for (name, value) in [
        ("guidance", json!(7.5)),
        ("width", json!(512)),
        ("height", json!(768)),
        ("clip_skip", json!(2)),
        ("rng", json!("cpu")),
        ("scheduler", json!("karras")),
        ("tiling", json!(true)),
    ] {
        view.record.settings.insert(name.to_owned(), value);
    }
    view.record.suite["prompts"][0]["settings"]["negative"] = json!("it's blurred");
    for cell in &mut view.cells {
        cell.prompt = "a red star".to_owned();
        cell.adapters[0].name = "ink".to_owned();
        cell.axes = BTreeMap::from([("sampler".to_owned(), json!("dpmpp_2m"))]);
    }
    let shown = words(&render(&[view]).unwrap());
    let wanted = r"lora-eval generate 'a red star' --base base --lora ink=ink:0.5 --seed 7 --clip-skip 2 --guidance 7.5 --height 768 --negative 'it'\''s blurred' --rng cpu --sampler dpmpp_2m --scheduler karras --steps 20 --width 512 --dtype f32 --device cpu --out h10.5.png";
    assert!(shown.contains(wanted), "{shown}");
    assert!(shown.contains("Also set in the suite, without a flag of its own: tiling = true"));
}

#[test]
fn no_text_changes_the_structure_of_a_page_with_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let harmless = skeleton(&render(&[run(folder.path(), "x")]).unwrap());
    assert!(harmless.lines().count() > 200, "{harmless}");
    for text in [
        "<script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        "</a></div></div><img src=x onerror=alert(1)>",
        "\" onload=\"alert(1)",
        "' onmouseover='alert(1)",
        "\"><svg onload=alert(1)>",
        "</dl></details></dialog>",
        "javascript:alert(1)",
        "{{ 7 * 7 }} {% raw %}",
        "&quot; onclick=x &lt;b&gt;",
        "<!--",
        "\u{202e}txet\u{2028}\0\u{1b}[31m",
        "../../../etc/passwd",
        &"W".repeat(5_000),
        &"<b>".repeat(600),
    ] {
        let html = render(&[run(folder.path(), text)]).unwrap();
        assert!(skeleton(&html) == harmless, "structure changed by {text:?}");
        let acting = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!html.contains(acting), "{text:?} reached the page");
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut view = run(folder.path(), "x");
    let first = render(&[view.clone()]).unwrap();
    view.cells.reverse();
    assert_eq!(render(&[view]).unwrap(), first);
}

#[test]
fn a_run_of_pictures_is_made_and_a_lost_one_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let yaml =
        "defaults: {width: 64, height: 128}\nstrengths: [0, 1]\nprompts: [{id: a, prompt: p}]\n";
    let suite = Suite::parse(Path::new("suite.yaml"), yaml).unwrap();
    let request = Request {
        suite: &suite,
        base: "b",
        adapters: &[],
        kind: "image",
        dtype: "f32",
        device: "cpu",
        max_batch: None,
    };
    let plan = Plan::new(&request).unwrap();
    let record = RunRecord { plan: plan.record(), ..record("x", &[], &[]) };
    let (run, _) = Run::create(&folder.path().join("run"), &record).unwrap();
    let make = || {
        let options = Options {
            suite: &suite,
            adapters: &[],
            shard: Shard::WHOLE,
            present: &run.present().unwrap(),
            progress: &|_| (),
        };
        let mut backend = FakeBackend { suite: &suite, pause: Duration::ZERO };
        execute(&run, &plan, &mut backend, &options).unwrap().written
    };
    assert_eq!(make(), 2);
    let cells = run.cells().unwrap().found;
    let paths: Vec<_> = cells.iter().map(|cell| run.output_path(cell).unwrap()).collect();
    assert_eq!(cells[0].output, format!("outputs/{}.png", cells[0].cell));
    assert!(paths.iter().all(|path| image::image_dimensions(path).unwrap() == (64, 128)));
    let bytes = fs::read(&paths[1]).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    assert_eq!(make(), 1);
    assert_eq!(fs::read(&paths[1]).unwrap(), bytes);
    assert_eq!(make(), 0);
}
