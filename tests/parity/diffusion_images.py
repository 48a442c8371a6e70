"""Pictures of the tiny pipelines by diffusers' own pipelines, with every scheduler that the program names."""

import diffusers
import torch

PROMPT = "a photo of a cat, masterpiece, best quality"
NEGATIVE = "lowres, bad hands, blurry"
SEED, STEPS, GUIDANCE = 1234, 20, 7.5
NOISE = [(8, 8), (12, 8)]  # sizes of latents whose noise is stored: those of the noisy samplers
EPSILON = 1e-6  # size of the perturbation that shows how stable a picture is

KARRAS = {"use_karras_sigmas": True}
SAMPLERS = {
    "ddim": ("DDIMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", KARRAS),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", KARRAS | {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
}
STORED_FLOAT = ("euler",)  # the pictures that are stored before rounding too


def cases(family):
    """Each picture's settings: what differs from the common ones."""
    out = [{"name": name, "sampler": name} for name in SAMPLERS if name != "lcm"]
    out += [  # with more steps at guidance 7.5, LCM multiplies an epsilon model's errors until nothing is left to compare
        {"name": "lcm", "sampler": "lcm", "steps": 8, "guidance": 1.5},
        {"name": "lcm_guidance", "sampler": "lcm", "steps": 8},
        {"name": "no_guidance", "sampler": "dpmpp_2m", "guidance": 1.0},
        {"name": "no_lora", "sampler": "euler", "lora": False},
        {"name": "no_negative", "sampler": "euler", "negative_prompt": None},
        {"name": "clip_skip", "sampler": "euler", "clip_skip": 1},
        {"name": "clip_skip_both", "sampler": "euler", "clip_skip": 1, "clip_skip_negative": True},
        {"name": "wide", "sampler": "dpmpp_2m_karras", "height": 64, "width": 96},
        {"name": "tall_no_lora", "sampler": "euler_a", "height": 96, "width": 64, "lora": False},
    ]
    if family == "sd2":
        out.append({"name": "guidance_rescale", "sampler": "ddim", "guidance_rescale": 0.7})
    common = {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "steps": STEPS, "guidance": GUIDANCE,
        "guidance_rescale": 0.0, "clip_skip": None, "clip_skip_negative": False, "height": 64, "width": 64, "lora": True,
    }  # fmt: skip
    out = [common | case for case in out]
    for case in out:
        case["scheduler"], case["scheduler_options"] = SAMPLERS[case["sampler"]]
    return out


def noise(seed, height, width, count):
    """The first `count` draws of a generator for latents of this size: the start, then one for each noisy step."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.cat([torch.randn((1, 4, height, width), generator=generator) for _ in range(count)])


@torch.no_grad()
def draw(pipe, case, perturbed=False):
    """Final latents (1, 4, h, w) and the picture (H, W, 3) in 0..1. `perturbed`: the starting noise and every output
    of the UNet have relative errors of EPSILON."""
    default = pipe.scheduler
    pipe.scheduler = getattr(diffusers, case["scheduler"]).from_config(default.config, **case["scheduler_options"])
    generator, last = torch.Generator("cpu").manual_seed(case["seed"]), {}
    latents, hook = perturb(pipe, case, generator) if perturbed else (None, None)

    def keep(_pipe, _step, _timestep, values):
        last["latents"] = values["latents"].clone()
        return {}

    picture = pipe(
        **conditions(pipe, case), num_inference_steps=case["steps"], guidance_scale=case["guidance"],
        guidance_rescale=case["guidance_rescale"], height=case["height"], width=case["width"], generator=generator,
        latents=latents, output_type="pt", callback_on_step_end=keep,
    ).images[0]  # fmt: skip
    pipe.scheduler = default
    if hook is not None:
        hook.remove()
    return last["latents"], picture.permute(1, 2, 0).contiguous()


def conditions(pipe, case):
    """The pipeline's clip_skip leaves the negative prompt alone; `clip_skip_negative` is for it too, as in the WebUI."""
    if not case["clip_skip_negative"]:
        return {key: case[key] for key in ("prompt", "negative_prompt", "clip_skip")}
    out = {}
    for name in ("prompt", "negative_prompt"):
        got = pipe.encode_prompt(
            prompt=case[name], device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False,
            clip_skip=case["clip_skip"],
        )  # fmt: skip
        out[f"{name}_embeds"] = got[0]
        if len(got) == 4:
            out["pooled_prompt_embeds" if name == "prompt" else "negative_pooled_prompt_embeds"] = got[2]
    return out


def perturb(pipe, case, generator):
    """Starting noise from the case's generator, as the pipeline would draw it, and a hook on the UNet; both shaken."""
    errors = torch.Generator("cpu").manual_seed(99)

    def shaken(tensor):
        return tensor * (1 + EPSILON * torch.randn(tensor.shape, generator=errors))

    hook = pipe.unet.register_forward_hook(lambda _module, _inputs, output: (shaken(output[0]),))
    start = torch.randn((1, 4, case["height"] // 8, case["width"] // 8), generator=generator)
    return shaken(start), hook


def psnr(a, b):
    return -10 * torch.log10(((a.double() - b.double()) ** 2).mean().clamp_min(1e-30)).item()


def rounded(picture):
    """As diffusers' numpy_to_pil: times 255, to the nearest (even) integer."""
    return (picture * 255).round().to(torch.uint8)


def family_images(family, base, adapted):
    """Tensors and the list of cases with their measured sizes."""
    tensors, out = {}, []
    for case in cases(family):
        pipe = adapted if case["lora"] else base
        latents, picture = draw(pipe, case)
        _, shaken = draw(pipe, case, perturbed=True)
        case["perturbed_psnr"] = round(psnr(picture, shaken), 1)
        case["deviation"] = round(picture.std().item(), 4)
        if case["lora"]:
            case["psnr_without_lora"] = round(psnr(picture, draw(base, case)[1]), 1)
        assert case["perturbed_psnr"] > 90 and case["deviation"] > 0.1, (family, case)
        assert case.get("psnr_without_lora", 0) < 35, (family, case)
        tensors[f"{case['name']}.latents"] = latents
        tensors[f"{case['name']}.image"] = rounded(picture)
        if case["name"] in STORED_FLOAT:
            tensors[f"{case['name']}.float"] = picture
        out.append(case)
    return tensors, out


def with_final_norm(pipe):
    """The pipeline's clip_skip looks for the final norm in `text_encoder.text_model`, which transformers 5.6 did away
    with. A plain attribute, so that no module contains itself."""
    if not hasattr(pipe.text_encoder, "text_model"):
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
