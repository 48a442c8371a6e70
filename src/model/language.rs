//! What is particular about the modules of language models.

use super::layout::{Slot, Table, Target};
use super::source::Base;
use crate::adapter::{Component, ModuleId};

/// Phi-3 fuses q, k and v in one weight and gate and up in another. An adapter may speak of either.
pub(super) fn name_parts(base: &Base, table: &mut Table) {
    let Some(config) = base.configs.get(&Component::Language) else { return };
    // no model has as many heads; and what the file says must not overflow
    let count = |key: &str| {
        let count = config[key].as_u64().and_then(|n| usize::try_from(n).ok());
        count.filter(|n| (1..1 << 24).contains(n))
    };
    let heads = count("num_attention_heads").unwrap_or(1);
    let groups = count("num_key_value_heads").unwrap_or(heads);
    let fused: Vec<Target> = table.targets.values().cloned().collect();
    for target in fused {
        let rows = target.weight.rows.len();
        let fits = target.weight.shape.len() == 2
            && target.bias.as_ref().is_none_or(|bias| bias.shape == [rows]);
        if !fits {
            continue;
        }
        let parts: &[(&str, usize)] = match target.id.path.rsplit('.').next() {
            Some("qkv_proj") if rows % (heads + 2 * groups) == 0 => {
                let head = rows / (heads + 2 * groups);
                &[("q_proj", heads * head), ("k_proj", groups * head), ("v_proj", groups * head)]
            }
            Some("gate_up_proj") if rows % 2 == 0 => {
                &[("gate_proj", rows / 2), ("up_proj", rows / 2)]
            }
            _ => continue,
        };
        let parent = target.id.path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let mut from = 0;
        for (name, width) in parts {
            let rows = from..from + width;
            from = rows.end;
            let part = |slot: &Slot| {
                let mut shape = slot.shape.clone();
                shape[0] = rows.len();
                Slot { rows: rows.clone(), shape, ..slot.clone() }
            };
            let id = ModuleId::new(target.id.component, &format!("{parent}.{name}"));
            let made = Target {
                weight: part(&target.weight),
                bias: target.bias.as_ref().map(part),
                id: id.clone(),
                ..target
            };
            table.parts.insert((id.component, id.flat()), made);
        }
    }
}

/// Finds out whether a language model's head is its token embedding. Where only the embedding is
/// stored, the head becomes a module that shares its tensor.
pub(super) fn find_tie(base: &Base, table: &mut Table) {
    let Some(config) = base.configs.get(&Component::Language) else { return };
    let class = config["architectures"][0].as_str().unwrap_or_default();
    let has_head = class.ends_with("ForCausalLM") || class.ends_with("LMHeadModel");
    let tied = config["tie_word_embeddings"].as_bool().unwrap_or(true);
    let leaf_is = |target: &&Target, leaves: &[&str]| {
        let leaf = target.id.path.rsplit('.').next().unwrap_or_default();
        target.id.component == Component::Language && leaves.contains(&leaf)
    };
    let embedding = ["embed_tokens", "wte", "word_embeddings"];
    let embedding = table.targets.values().find(|t| leaf_is(t, &embedding)).cloned();
    let Some(embedding) = embedding.filter(|_| tied) else { return };
    let place = |target: &Target| (target.weight.file, target.weight.key.clone());
    match table.targets.values().find(|t| leaf_is(t, &["lm_head", "embed_out"])) {
        // Both are stored, but a loader that ties them would drop one.
        Some(head) => table.stored_tie = Some([place(&embedding), place(head)]),
        None if has_head => {
            let id = ModuleId::new(Component::Language, "lm_head");
            table.insert(Target { id, bias: None, tied: true, ..embedding });
        }
        None => {}
    }
}
