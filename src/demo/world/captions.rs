use super::{Place, Scene, Size};

/// The texts that say a scene. The first says all of it: `a small red star at the left on a green
/// background`; the others leave out its size, its place or both, and each has a second form.
pub fn captions(scene: Scene) -> Vec<String> {
    let sizes = [Some(scene.size), None];
    let places = [Some(scene.place), None];
    let said = places.into_iter().flat_map(|place| sizes.map(|size| (size, place)));
    said.flat_map(|(size, place)| forms(scene, size, place)).collect()
}

fn forms(scene: Scene, size: Option<Size>, place: Option<Place>) -> [String; 2] {
    let mut what = format!("{} {}", scene.colour.word(), scene.shape.word());
    if let Some(size) = size {
        what = format!("{} {what}", size.word());
    }
    if let Some(place) = place {
        what = format!("{what} {}", place.words());
    }
    let article = if what.starts_with('o') { "an" } else { "a" };
    let background = scene.background.word();
    [
        format!("{article} {what} on a {background} background"),
        format!("{article} {what}, {background} background"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Colour, Shape};
    use super::*;

    #[test]
    fn captions_say_all_first_and_nothing_but_colours_and_shape_last() {
        let scene = Scene {
            shape: Shape::Star,
            colour: Colour::Orange,
            size: Size::Small,
            place: Place::Left,
            background: Colour::Green,
        };
        let all = captions(scene);
        assert_eq!(all.len(), 8);
        assert_eq!(all[0], "a small orange star at the left on a green background");
        assert_eq!(all[7], "an orange star, green background");
    }

    #[test]
    fn whole_captions_tell_scenes_apart() {
        let all = Scene::all();
        let said: BTreeSet<String> = all.iter().map(|scene| captions(*scene)[0].clone()).collect();
        assert_eq!(said.len(), all.len());
    }
}
