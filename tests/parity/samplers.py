"""Samplers: timesteps, noise levels and final latents of diffusers and k-diffusion on a toy model.

    python tests/parity/samplers.py

writes `samplers.json` beside itself. Peers: diffusers 0.42.1 with torch 2.15.0 and numpy 1.26.4,
k-diffusion 0.1.1.post1. The WebUI's own DDIM, PLMS, UniPC, LCM and schedules (1.10.1) are written here
from their formulas, with torch in f32 as there. Each model call is

    0.8 x cos(t / 300) + 0.1 sin(3 x)

in f64, rounded to the latents' type. Both rows of the latents get the same noise, from a fixed list. Brownian
motion is drawn from that list, too: one value for each new interval of noise levels.

The peers compute coefficients in f32, and some of their formulas cancel. `rounding` is how far a
peer's latents lie from what it computes in f64 with the same noise levels, in units of the largest
latent or of 1: another order of equally good roundings can differ by as much.
"""

import contextlib
import copy
import json
import math
import pathlib
import sys
import types
import warnings

# k-diffusion imports CLIP for a metric that is not used here
sys.modules["clip"] = types.ModuleType("clip")

import diffusers
import k_diffusion
import numpy as np
import scipy.stats
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from diffusers.training_utils import compute_snr
from k_diffusion.external import DiscreteEpsDDPMDenoiser, DiscreteVDDPMDenoiser

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()
torch.set_num_threads(1)

ROWS, ROW = 2, 8
SHAPE = (ROWS, 4, 1, 2)
GENERATOR = np.random.default_rng(7)
START = GENERATOR.standard_normal(ROWS * ROW).astype(np.float32)
NOISES = GENERATOR.standard_normal((40, ROW)).astype(np.float32)

SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TRAIN = {"num_train_timesteps": 1000, "trained_betas": None}
CONFIGS = {
    "sd15": {
        "_class_name": "PNDMScheduler", **SCALED, **TRAIN, "set_alpha_to_one": False,
        "skip_prk_steps": True, "steps_offset": 1, "clip_sample": False,
    },
    "sd21": {
        "_class_name": "DDIMScheduler", **SCALED, **TRAIN, "clip_sample": False,
        "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True,
        "steps_offset": 1,
    },
    "sdxl": {
        "_class_name": "EulerDiscreteScheduler", **SCALED, **TRAIN, "clip_sample": False,
        "interpolation_type": "linear", "prediction_type": "epsilon", "sample_max_value": 1.0,
        "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
        "timestep_spacing": "leading", "use_karras_sigmas": False,
    },
    "sample": {
        "_class_name": "UniPCMultistepScheduler", **SCALED, **TRAIN, "prediction_type": "sample",
        "timestep_spacing": "trailing", "clip_sample": True, "clip_sample_range": 1.5,
    },
    "zero_snr": {
        "_class_name": "EulerAncestralDiscreteScheduler", **SCALED, **TRAIN, "clip_sample": False,
        "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing", "skip_prk_steps": True,
    },
    "defaults": {"_class_name": "DDPMScheduler", "skip_prk_steps": True},
    "cosine": {
        "_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2",
        "lambda_min_clipped": -5.1, "skip_prk_steps": True,
    },
    "third": {
        "_class_name": "DPMSolverMultistepScheduler", **SCALED, **TRAIN, "solver_order": 3,
        "solver_type": "heun", "lower_order_final": False, "final_sigmas_type": "sigma_min",
        "disable_corrector": [0, 3],
    },
    "variants": {
        "_class_name": "DPMSolverMultistepScheduler", **SCALED, **TRAIN, "solver_type": "heun",
        "use_lu_lambdas": True, "euler_at_final": True, "final_sigmas_type": "sigma_min",
        "sigma_min": 0.1, "sigma_max": 10.0,
    },
    "bh1": {
        "_class_name": "UniPCMultistepScheduler", **SCALED, **TRAIN, "solver_type": "bh1",
        "solver_order": 3, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min",
    },
    "betas": {
        "_class_name": "LCMScheduler", "num_train_timesteps": 50,
        "trained_betas": [round(0.001 + 0.002 * i, 6) for i in range(50)], "skip_prk_steps": True,
        "original_inference_steps": 25, "timestep_scaling": 3.0,
    },
}
CLASSES = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
SCHEDULES = {
    "automatic": {},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
    "sgm_uniform": {"timestep_spacing": "trailing"},
    "uniform": {"timestep_spacing": "linspace"},
}


def model(x, t):
    wide = x.double()
    return (0.8 * wide * math.cos(float(t) / 300) + 0.1 * torch.sin(3 * wide)).to(x.dtype)


class Noise:
    """The fixed list, and Brownian motion over noise levels made of it."""

    def __init__(self):
        self.drawn, self.levels, self.motion = 0, [], []

    def next(self, *_args, **_keywords):
        row = torch.from_numpy(NOISES[self.drawn % len(NOISES)]).reshape(1, *SHAPE[1:])
        self.drawn += 1
        return row.expand(SHAPE).to(torch.get_default_dtype())

    def at(self, level):
        """The motion at a level: known, or drawn on from the last level known."""
        for known, motion in zip(self.levels, self.motion):
            if abs(known - level) <= 1e-5 * known:
                return motion
        if not self.levels:
            step = torch.zeros(SHAPE, dtype=torch.float64)
        else:
            step = self.motion[-1] + math.sqrt(self.levels[-1] - level) * self.next().double()
        self.levels.append(level)
        self.motion.append(step)
        return step

    def brownian(self, level, following):
        level, following = float(level), float(following)
        difference = self.at(level), self.at(following)
        unit = (difference[1] - difference[0]) / math.sqrt(level - following)
        return unit.to(torch.get_default_dtype())


@contextlib.contextmanager
def f64():
    """Everything in f64, also where a peer asks for `torch.float32`."""
    narrow = torch.float32
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float64
    try:
        yield
    finally:
        torch.float32 = narrow
        torch.set_default_dtype(narrow)


def start():
    return torch.from_numpy(START).reshape(SHAPE).to(torch.get_default_dtype())


def rounding(narrow, wide):
    difference = (narrow.double() - wide.double()).abs().max() / max(1.0, wide.abs().max())
    return float(f"{float(difference):.2g}")


def diffusers_loop(scheduler, noise):
    module = __import__(type(scheduler).__module__, fromlist=["x"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = noise.next
    x = start() * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    return x


def diffusers_case(config, algorithm, schedule, steps):
    name, keywords = CLASSES[algorithm]
    scheduler = getattr(diffusers, name).from_config(
        dict(CONFIGS[config]), **keywords, **SCHEDULES[schedule]
    )
    scheduler.set_timesteps(steps)
    scheduler.noise_sampler = (noise := Noise()).brownian
    init_scale, wide = number(scheduler.init_noise_sigma), copy.deepcopy(scheduler)
    x = diffusers_loop(scheduler, noise)
    with f64():
        for name in ("sigmas", "alphas_cumprod", "final_alpha_cumprod"):
            if hasattr(wide, name):
                setattr(wide, name, getattr(wide, name).double())
        wide.noise_sampler = (noise_f64 := Noise()).brownian
        exact = diffusers_loop(wide, noise_f64)
    levels = {}
    if algorithm in ("euler", "euler_a", "dpmpp_2m", "dpmpp_2m_sde", "unipc"):
        levels = {"sigmas": numbers(scheduler.sigmas[:-1])}
    return {
        "config": config, "algorithm": algorithm, "schedule": schedule, "steps": steps,
        "init_scale": init_scale, "draws": noise.drawn,
        "timesteps": numbers(scheduler.timesteps), **levels, "final": numbers(x),
        "rounding": rounding(x, exact),
    }


# --- the WebUI -------------------------------------------------------------------------------

ROOTS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
BARS = np.cumprod(1.0 - (ROOTS**2).numpy())
ALPHAS = torch.tensor(BARS, dtype=torch.float32)


def levels(schedule, n, denoiser):
    low, high = denoiser.sigmas[0].item(), denoiser.sigmas[-1].item()
    sampling = k_diffusion.sampling
    spread = {
        "karras": sampling.get_sigmas_karras,
        "exponential": sampling.get_sigmas_exponential,
        "polyexponential": sampling.get_sigmas_polyexponential,
    }
    if schedule in spread:
        return spread[schedule](n, low, high)
    first, last = (denoiser.sigma_to_t(torch.tensor(level)) for level in (high, low))
    if schedule == "uniform":
        return denoiser.get_sigmas(n)
    if schedule == "normal":
        values = [denoiser.t_to_sigma(t) for t in torch.linspace(first, last, n)]
    elif schedule == "sgm_uniform":
        values = [denoiser.t_to_sigma(t) for t in torch.linspace(first, last, n + 1)[:-1]]
    elif schedule == "simple":
        values = [denoiser.sigmas[-1 - int(i * (len(denoiser.sigmas) / n))] for i in range(n)]
    elif schedule == "ddim":
        values = denoiser.sigmas[1 :: max(len(denoiser.sigmas) // n, 1)].flip(0).tolist()
    elif schedule == "beta":
        parts = scipy.stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6)
        values = [low + part * (high - low) for part in parts]
    else:
        ends = torch.arctan(torch.tensor(low)), torch.arctan(torch.tensor(high))
        part = torch.arange(n + 1) / n
        return torch.tan(part * ends[0] + (1.0 - part) * ends[1])
    return torch.tensor([float(value) for value in values] + [0.0])


def k_case(prediction, algorithm, schedule, steps):
    calls = []

    def inner(x, t):
        calls.append(t[0].item())
        return model(x, t[0].item())

    wrapper = {"epsilon": DiscreteEpsDDPMDenoiser, "v_prediction": DiscreteVDDPMDenoiser}
    denoiser = wrapper[prediction](inner, ALPHAS, quantize=False)
    if algorithm == "dpmpp_3m_sde":
        sigmas = levels(schedule, steps + 1, denoiser)
        sigmas = torch.cat([sigmas[:-2], sigmas[-1:]])
    else:
        sigmas = levels(schedule, steps, denoiser)
    x, noise = k_loop(algorithm, denoiser, sigmas)
    seen = list(calls)
    with f64():
        exact, _ = k_loop(algorithm, denoiser.double(), sigmas.double())
    return {
        **webui(prediction, algorithm, schedule, steps, sigmas[0], noise, seen, x),
        "rounding": rounding(x, exact),
    }


def k_loop(algorithm, denoiser, sigmas):
    noise = Noise()
    function, sampler = {
        "euler": ("sample_euler", None),
        "euler_a": ("sample_euler_ancestral", lambda *_: noise.next()),
        "heun": ("sample_heun", None),
        "dpmpp_2m": ("sample_dpmpp_2m", None),
        "dpmpp_2m_sde": ("sample_dpmpp_2m_sde", noise.brownian),
        "dpmpp_3m_sde": ("sample_dpmpp_3m_sde", noise.brownian),
        "dpmpp_sde": ("sample_dpmpp_sde", noise.brownian),
    }[algorithm]
    keywords = {"noise_sampler": sampler} if sampler else {}
    sample = getattr(k_diffusion.sampling, function)
    return sample(denoiser, start() * sigmas[0], sigmas, disable=True, **keywords), noise


def webui(prediction, algorithm, schedule, steps, init_scale, noise, calls, x):
    return {
        "webui": prediction, "algorithm": algorithm, "schedule": schedule, "steps": steps,
        "init_scale": number(init_scale), "draws": noise.drawn, "timesteps": numbers(calls),
        "final": numbers(x),
    }


def predicted_noise(prediction, x, t, calls):
    """The model's ε at a timestep, of which the whole part counts for v."""
    calls.append(float(t))
    output = model(x, float(t))
    if prediction == "epsilon":
        return output
    bar = BARS[int(t)]
    root, rest = (torch.tensor(math.sqrt(part), dtype=torch.float32) for part in (bar, 1 - bar))
    return root * output + rest * x


def step_between(x, noise, start, end):
    """DDIM with η = 0 from ᾱ `start` to ᾱ `end`."""
    image = (x - (1 - start).sqrt() * noise) / start.sqrt()
    return end.sqrt() * image + (1 - end).sqrt() * noise


def times(steps):
    return (torch.arange(0, 1000, 1000 // steps) + 1).clip(0, 999).tolist()


def ddim_case(prediction, steps):
    x, calls, rising = start(), [], times(steps)
    for t, end in zip(rising[:0:-1], rising[-2::-1]):
        x = step_between(x, predicted_noise(prediction, x, t, calls), ALPHAS[t], ALPHAS[end])
    return webui(prediction, "ddim", "automatic", steps, 1.0, Noise(), calls, x)


def plms_case(prediction, steps):
    x, calls, rising, old = start(), [], times(steps), []
    for t, end in zip(rising[:0:-1], rising[-2::-1]):
        now = predicted_noise(prediction, x, t, calls)
        if not old:
            ahead = step_between(x, now, ALPHAS[t], ALPHAS[end])
            mean = (now + predicted_noise(prediction, ahead, end, calls)) / 2
        elif len(old) == 1:
            mean = (3 * now - old[-1]) / 2
        elif len(old) == 2:
            mean = (23 * now - 16 * old[-1] + 5 * old[-2]) / 12
        else:
            mean = (55 * now - 59 * old[-1] + 37 * old[-2] - 9 * old[-3]) / 24
        old = [*old[-2:], now]
        x = step_between(x, mean, ALPHAS[t], ALPHAS[end])
    return webui(prediction, "pndm", "automatic", steps, 1.0, Noise(), calls, x)


def unipc_case(prediction, steps):
    """Order 3 and B(h) = h, by the original's formulas on times in (0, 1]."""
    count, calls = len(times(steps)), []
    knots = torch.linspace(0.0, 1.0, 1001)[1:]
    grid = torch.linspace(1.0, 1 / 1000, count + 1)
    logs = 0.5 * torch.log(ALPHAS)

    def log_alpha(t):
        low = int(torch.searchsorted(knots, t, right=True)) - 1
        low = min(max(low, 0), 998)
        slope = (logs[low + 1] - logs[low]) / (knots[low + 1] - knots[low])
        return logs[low] + (t - knots[low]) * slope

    alphas = [torch.exp(log_alpha(t)) for t in grid]
    sigmas = [torch.sqrt(1.0 - torch.exp(2 * log_alpha(t))) for t in grid]
    lambdas = [
        log_alpha(t) - 0.5 * torch.log(1.0 - torch.exp(2 * log_alpha(t))) for t in grid
    ]

    def image(x, i):
        noise = predicted_noise(prediction, x, (grid[i] - 1 / 1000) * 1000, calls)
        return (x - sigmas[i] * noise) / alphas[i]

    x = start()
    images = [image(x, 0)]
    for i in range(1, count + 1):
        order = min(3, i, count + 1 - i)
        h = lambdas[i] - lambdas[i - 1]
        ratios = [(lambdas[i - 1 - k] - lambdas[i - 1]) / h for k in range(1, order)] + [1.0]
        ratios = torch.tensor(ratios)
        slopes = [(images[-1 - k] - images[-1]) / ratios[k - 1] for k in range(1, order)]
        phi = torch.expm1(-h)
        rows, rhs, part, factorial = [], [], phi / -h - 1, 1
        for k in range(1, order + 1):
            rows.append(ratios ** (k - 1))
            rhs.append(part * factorial / -h)
            factorial *= k + 1
            part = part / -h - 1 / factorial
        rows, rhs = torch.stack(rows), torch.stack(rhs)
        base = sigmas[i] / sigmas[i - 1] * x - alphas[i] * phi * images[-1]
        weights = torch.tensor([0.5]) if order == 2 else torch.linalg.solve(rows[:-1, :-1], rhs[:-1])
        ahead = base - alphas[i] * -h * sum(w * slope for w, slope in zip(weights, slopes))
        if i == count:
            x = ahead
            break
        images.append(image(ahead, i))
        weights = torch.tensor([0.5]) if order == 1 else torch.linalg.solve(rows, rhs)
        slopes.append(images[-1] - images[-2])
        x = base - alphas[i] * -h * sum(w * slope for w, slope in zip(weights, slopes))
    return webui(prediction, "unipc", "automatic", steps, 1.0, Noise(), calls, x)


def lcm_case(schedule, steps):
    """The denoiser of every twentieth timestep, with c_skip and c_out of σ_data = ½."""
    denoiser = DiscreteEpsDDPMDenoiser(None, ALPHAS[19::20], quantize=True)
    nearest, level = denoiser.sigma_to_t, denoiser.t_to_sigma
    denoiser.sigma_to_t = lambda sigma: nearest(sigma, quantize=True) * 20 + 19
    denoiser.t_to_sigma = lambda t: level(((t - 19) / 20).clamp(0, 49))
    if schedule == "automatic":
        ends = (denoiser.sigma_to_t(end) for end in (denoiser.sigma_max, denoiser.sigma_min))
        sigmas = torch.cat([denoiser.t_to_sigma(torch.linspace(*ends, steps)), torch.zeros(1)])
    else:
        sigmas = levels(schedule, steps, denoiser)
    noise, calls = Noise(), []
    x = start() * sigmas[0]
    for sigma, following in zip(sigmas, sigmas[1:]):
        calls.append(denoiser.sigma_to_t(sigma).item())
        noisy = x * (1 / (sigma**2 + 1.0) ** 0.5)
        image = x + model(noisy, calls[-1]) * -sigma
        scaled = torch.tensor(calls[-1]) * 10.0
        x = scaled / (scaled**2 + 0.25) ** 0.5 * image + 0.25 / (scaled**2 + 0.25) * x
        if following > 0:
            x = x + following * noise.next()
    return webui("epsilon", "lcm", schedule, steps, sigmas[0], noise, calls, x)


# --- training and guidance -------------------------------------------------------------------


def training_case(config):
    scheduler = diffusers.DDPMScheduler.from_config(dict(CONFIGS[config]))
    last = scheduler.config.num_train_timesteps - 1
    timesteps = torch.tensor([last // 3, last])
    x = start()
    noise = torch.from_numpy(NOISES[:ROWS]).reshape(SHAPE)
    return {
        "config": config, "timesteps": timesteps.tolist(),
        "alphas_cumprod": numbers(scheduler.alphas_cumprod[timesteps]),
        "snr": numbers(compute_snr(scheduler, timesteps)),
        "add_noise": numbers(scheduler.add_noise(x, noise, timesteps)),
        "velocity": numbers(scheduler.get_velocity(x, noise, timesteps)),
    }


def guidance_case():
    guided = start() * 3
    conditional = torch.from_numpy(NOISES[:ROWS]).reshape(SHAPE)
    return {"factor": 0.7, "rescaled": numbers(rescale_noise_cfg(guided, conditional, 0.7))}


def number(value):
    return float(f"{float(value):.9g}")


def numbers(values):
    values = torch.as_tensor(values).flatten().double()
    assert values.isfinite().all()
    return [number(value) for value in values]


def cases():
    for config in ("sd15", "sd21", "sdxl"):
        for algorithm in CLASSES:
            for steps in (1, 2, 7, 20):
                yield diffusers_case(config, algorithm, "automatic", steps)
    for algorithm in ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "unipc"):
        for schedule in ("karras", "exponential", "beta"):
            yield diffusers_case("sdxl", algorithm, schedule, 20)
        yield diffusers_case("sd21", algorithm, "karras", 7)
    for algorithm in CLASSES:
        if algorithm != "lcm":
            for schedule in ("sgm_uniform", "uniform"):
                yield diffusers_case("sdxl", algorithm, schedule, 7)
        for config in ("defaults", "betas"):
            yield diffusers_case(config, algorithm, "automatic", 7)
        if algorithm not in ("pndm", "euler_a", "dpmpp_sde"):
            yield diffusers_case("sample", algorithm, "automatic", 7)
        yield diffusers_case("zero_snr", algorithm, "automatic", 7)
    for algorithm in ("dpmpp_2m", "dpmpp_2m_sde"):
        for config in ("third", "variants", "cosine"):
            for steps in (7, 20):
                yield diffusers_case(config, algorithm, "automatic", steps)
        yield diffusers_case("cosine", algorithm, "karras", 20)
        yield diffusers_case("variants", algorithm, "karras", 7)
    for algorithm in ("euler", "unipc"):
        yield diffusers_case("variants", algorithm, "exponential", 7)
    for algorithm in ("euler", "heun", "dpmpp_sde"):
        yield diffusers_case("variants", algorithm, "karras", 7)
    for steps in (7, 20):
        yield diffusers_case("bh1", "unipc", "automatic", steps)
    for algorithm in (
        "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"
    ):
        for prediction in ("epsilon", "v_prediction"):
            # k-diffusion's DPM++ 2M SDE and 3M SDE cannot take a single step
            for steps in (1, 2, 7, 20)[algorithm in ("dpmpp_2m_sde", "dpmpp_3m_sde") :]:
                yield k_case(prediction, algorithm, "uniform", steps)
            yield k_case(prediction, algorithm, "karras", 20)
        yield k_case("epsilon", algorithm, "kl_optimal", 7)
    for schedule in ("exponential", "polyexponential", "sgm_uniform", "simple", "normal", "ddim"):
        yield k_case("epsilon", "euler", schedule, 7)
        yield k_case("epsilon", "dpmpp_2m", schedule, 20)
    yield k_case("epsilon", "euler", "beta", 20)
    yield k_case("epsilon", "dpmpp_3m_sde", "exponential", 20)
    for prediction in ("epsilon", "v_prediction"):
        for case in (ddim_case, plms_case, unipc_case):
            for steps in (3, 7, 20):
                yield case(prediction, steps)
    for steps in (1, 4, 8):
        yield lcm_case("automatic", steps)
    for schedule in ("karras", "sgm_uniform"):
        yield lcm_case(schedule, 5)


def main():
    versions = {peer.__name__: peer.__version__ for peer in (diffusers, torch, np)}
    content = {
        "versions": {**versions, "k_diffusion": "0.1.1.post1"},
        "row": ROW, "start": numbers(START), "noises": numbers(NOISES), "configs": CONFIGS,
        "training": [
            training_case(config) for config in ("sd15", "defaults", "zero_snr", "betas", "cosine")
        ],
        "guidance": guidance_case(),
    }
    text = json.dumps(content)[:-1] + ', "cases": [\n'
    text += ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases()) + "\n]}\n"
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(text)
    print(len(json.loads(text)["cases"]), "cases,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
