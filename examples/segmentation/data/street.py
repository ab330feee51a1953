"""A built-in procedural data set: street scenes from a driver's view, with exact label maps.

A street is laid out in metres and painted from far to near. Camera, light, fog, blur and sensor noise vary. Classes
share colours on purpose, so that a network has to learn shape, texture and position: cars grey as the road, walls of
glass like the sky or green as trees.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from segmentation.data.datasets import Dataset
from segmentation.data.street_stage import (
    ANY_COLOUR,
    EARTH,
    GLASS,
    GREY,
    LAMP,
    LEAVES,
    SKIN,
    STRIPS,
    SUPERSAMPLING,
    TAIL_LIGHT,
    WALL,
    WHOLE,
    Floats,
    Stage,
    boxes,
    discs,
    limbs,
    pick,
    smooth_noise,
    upright,
)

CLASSES = ("sky", "road", "building", "tree", "car", "person")
COLOURS = ("#8fc7ea", "#80508c", "#9a5b4f", "#5f9636", "#1f3fa8", "#dc143c")  # CamVid's
SKY, ROAD, BUILDING, TREE, CAR, PERSON = range(len(CLASSES))

Bytes = NDArray[np.uint8]
Things = list[tuple[float, Callable[[], None]]]  # depths, and functions that paint there

STREET_END = 70.0  # metres
NOISE_GRID, CLOUD_GRID = (24, 32), (5, 7)
TEXTURE = np.array([0.03, 0.15, 0.15, 0.3, 0.08, 0.15])  # strongest for each class, relative to its brightness
GROUND = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=float)
SIDES = np.array([[-1, 0], [1, 0]])
BANDS = np.geomspace(1, STREET_END, 11)  # depths between which the ground is painted, metres
BOUGHS = np.geomspace(0.6, 0.12, 26)[:, None]


def sky(stage: Stage) -> Image.Image:
    """Draw a gradient from zenith to horizon with clouds."""
    rng = stage.rng
    descent = np.linspace(0, stage.height / stage.vanishing[1], NOISE_GRID[0]).clip(0, 1)[:, None, None]
    gradient = stage.zenith + (stage.haze - stage.zenith) * descent
    billows = smooth_noise(rng, CLOUD_GRID, NOISE_GRID) + 0.3 * rng.standard_normal(NOISE_GRID)
    cover = (billows * rng.uniform(0.1, 0.8) + rng.uniform(-0.8, 0.4)).clip(0, 0.9)[..., None]
    pixels = gradient + (stage.haze * rng.uniform(0.7, 1.2) - gradient) * cover
    smooth = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize(
        (stage.width // SUPERSAMPLING, stage.height // SUPERSAMPLING), Image.Resampling.BILINEAR
    )
    return smooth.resize((stage.width, stage.height), Image.Resampling.NEAREST)


def paint_ground(stage: Stage) -> None:
    """Paint pavement, road, patches, lane markings, perhaps a crossing, and the shadows of one side's buildings."""
    rng, road = stage.rng, stage.road
    asphalt, pavement = pick(rng, GREY), pick(rng, GREY + EARTH)
    lines = asphalt + (255 - asphalt) * rng.uniform(0.2, 0.9)
    for reach, colour in ((200, pavement), (road + 0.3, lines * 0.8), (road, asphalt)):
        bands = boxes(-reach, BANDS[:-1], reach, BANDS[1:])
        stage.paint(GROUND, bands, colour * rng.uniform(0.95, 1.05, (len(bands), 1)), ROAD)
    x, z = rng.uniform((-road, 2), (road, 40), (8, 2)).T
    patches = boxes(x, z, x + rng.uniform(0.1, 3, 8), z + rng.uniform(0.3, 6, 8))
    stage.paint(GROUND, patches, asphalt * rng.uniform(0.75, 1.2, (8, 1)))
    dashes, share = np.arange(1, STREET_END / 2, rng.uniform(4, 9)), rng.uniform(0.3, 1)
    for lane in np.linspace(-road, road, rng.integers(2, 5))[1:-1]:
        stage.paint(GROUND, boxes(lane - 0.08, dashes, lane + 0.08, dashes + (dashes[1] - dashes[0]) * share), lines)
    if rng.random() < 0.4:
        stripes, start = np.arange(-road, road, 1.0), rng.uniform(4, 20)
        stage.paint(GROUND, boxes(stripes, start, stripes + 0.5, start + 3), lines)
    if not stage.is_dark and rng.random() < 0.6:
        z, side = np.sort(rng.uniform(1, STREET_END, 7)), stage.facade * rng.choice([-1, 1])
        shadows = boxes(-side, z[:-1], side * rng.uniform(-1, 1, 6), z[1:])
        stage.paint(GROUND, shadows, np.zeros(3), opacity=rng.uniform(0.1, 0.6))


def paint_building(stage: Stage, low: Floats, high: Floats) -> None:
    """Paint a block with rows of windows, and either shops or a door on the ground floor."""
    rng, rise = stage.rng, float(high[1] - low[1])
    wall, trim = pick(rng, WALL), pick(rng, ANY_COLOUR)
    panes = np.stack([pick(rng, GLASS), pick(rng, GLASS), pick(rng, LAMP if stage.is_dark else GLASS)])
    storey, bay, width, height = rng.uniform((2.7, 2, 0.25, 0.2), (4, 4.5, 0.95, 0.7)).tolist()
    is_coursed, has_shops, has_blank_front = (rng.random(3) < 0.5).tolist()
    rows = max(1, round(rise / storey))
    for face in stage.faces(low, high):
        is_front, span = face[0, 2] == face[1, 2], float(np.abs(face[1] - face[0]).max())
        columns = max(1, round(span / bay))
        stage.paint(face, STRIPS, wall * (0.8 if is_front else 1), BUILDING)
        if is_coursed:
            courses = np.arange(0.3, rise, storey / 3) / rise
            stage.paint(face, boxes(0, courses, 1, courses + 0.15 / rise), wall * 0.85)
        if not (is_front and has_blank_front):
            u, v = np.tile(np.arange(columns), rows - 1) + (1 - width) / 2, np.repeat(np.arange(1, rows), columns) + 0.2
            windows = boxes(u, v, u + width, v + height) / (columns, rows)
            stage.paint(face, windows, panes[rng.integers(3, size=len(u))])
        if has_shops:
            u = np.arange(columns) + 0.1
            fronts = boxes(u, 0.05, u + rng.uniform(0.2, 0.8, columns), 0.7) / (columns, rows)
            stage.paint(face, fronts, panes[rng.integers(3, size=columns)])
        sign = boxes(0, 0.75 / rows, 1, 0.95 / rows) if has_shops else boxes(0.45, 0, 0.45 + 1.1 / span, 2.2 / rise)
        stage.paint(face, sign, trim)


def paint_tree(stage: Stage, x: float, z: float) -> None:
    """Paint a bare, coniferous or leafy tree."""
    rng = stage.rng
    scale, kind, size, tall, trunk = rng.uniform((0.7, 0, 1, 1.2, 1.5), (1.7, 1, 2.3, 2.3, 2.6)).tolist()
    face, bark, leaf = upright(x, z, scale), pick(rng, EARTH + GREY) * 0.6, pick(rng, LEAVES)
    stage.paint(face, limbs(np.zeros((1, 2)), np.array([[0, trunk + 0.5]]), 0.16, 0.7), bark, TREE)
    if kind < 0.2:  # bare
        tips, angles = np.array([[0.0, trunk]]), np.zeros(1)
        for generation in range(1, 5):
            tips, angles = tips.repeat(2, axis=0), angles.repeat(2) + rng.uniform(-0.8, 0.8, 2**generation)
            ends = tips + 1.6 * 0.75**generation * np.stack([np.sin(angles), np.cos(angles)], axis=1)
            stage.paint(face, limbs(tips, ends, 0.13 / generation), bark, TREE)
            tips = ends
    elif kind < 0.35:  # coniferous
        feet = np.linspace((0, 0.6), (0, 4.6), 6)
        tiers = limbs(feet, feet * 1.1 + (0, 1.2), size * np.linspace(1, 0.3, 6), 0.1)
        stage.paint(face, tiers, leaf * rng.uniform(0.7, 1, (6, 1)), TREE)
    else:  # leafy
        places = rng.uniform(-0.75, 0.75, (len(BOUGHS), 2))
        places[:, 0] *= np.sqrt(1 - places[:, 1] ** 2)
        tones = leaf * (0.85 + 0.3 * places[:, 1:] + rng.uniform(-0.2, 0.2, (len(BOUGHS), 1)))
        boughs = discs(places * (size, tall) + (0, trunk + tall), BOUGHS * (size, tall))
        stage.paint(face, boughs, tones, TREE)


def paint_car(stage: Stage, x: float, z: float) -> None:
    """Paint a car or van that points along the street or crosses it."""
    rng, black = stage.rng, np.full(3, 25)
    colour, glass = pick(rng, ANY_COLOUR), pick(rng, GLASS) * 0.7
    lamps = pick(rng, TAIL_LIGHT if rng.random() < 0.6 else LAMP) / stage.light
    width, length, deck, cabin = rng.uniform((1.6, 3.4, 0.45, 0.4), (2, 5.2, 0.75, 0.75)).tolist()
    rear, bonnet, slope = rng.uniform((0, 0.6, 0.1), (0.8, 1.3, 0.6)).tolist()
    if rng.random() < 0.2:  # a van
        cabin, rear, bonnet = cabin + 0.8, 0, 0.3
    is_along = rng.random() < 0.7
    along, extent = np.array([0, 0, 1] if is_along else [1, 0, 0]), np.array([width, deck, length])
    extent = extent if is_along else extent[::-1]
    low = np.array([x - extent[0] / 2, 0.3, z])
    for face in stage.faces(low, low + extent):
        stage.paint(face, WHOLE, colour * rng.uniform(0.8, 1.1), CAR)
        span = float(np.abs(face[1] - face[0]).max())
        if face[0, 1] < face[3, 1] and span > 2.1:  # a long side: wheels, hubs
            hubs = [[0.19, 0.04 / deck], [0.8, 0.04 / deck]]
            stage.paint(face, discs(hubs, [0.34 / span, 0.34 / deck]), black, CAR)
            stage.paint(face, discs(hubs, [0.18 / span, 0.18 / deck]), black * 5)
        elif face[0, 1] < face[3, 1]:  # front or rear: wheels, plates, lamps
            stage.paint(face, boxes([0.05, 0.8], -0.55, [0.2, 0.95], 0), black, CAR)
            stage.paint(face, boxes([0, 0.36], [0, 0.25], [1, 0.64], [0.2, 0.42]), np.stack([colour * 0.5, black * 8]))
            stage.paint(face, boxes([0.04, 0.8], 0.5, [0.2, 0.96], 0.8), lamps)
    base, roof = low + rear * along + (0, deck, 0), low + extent - bonnet * along + (0, cabin, 0)
    for face in stage.faces(base, roof, (0.15, slope) if is_along else (slope, 0.15)):
        stage.paint(face, WHOLE, colour * rng.uniform(0.8, 1.1), CAR)
        if face[0, 1] < face[3, 1]:
            is_long = np.abs(face[1] - face[0]).max() > 2.1
            panes = boxes([0.06, 0.53], 0.1, [0.48, 0.94], 0.85) if is_long else boxes(0.08, 0.1, 0.92, 0.85)
            stage.paint(face, panes, glass)


def paint_person(stage: Stage, x: float, z: float) -> None:
    """Paint an adult or a child, standing or walking."""
    rng = stage.rng
    face = upright(x, z, rng.uniform(1.5, 1.95) if rng.random() < 0.85 else 1.15)
    girth, stride, swing, lean = rng.uniform((0.85, 0, 0, -0.02), (1.35, 0.13, 0.07, 0.02)).tolist()
    shirt, trousers, hair, skin = (pick(rng, palette) for palette in (ANY_COLOUR, ANY_COLOUR, EARTH + GREY, SKIN))
    hips, shoulders = SIDES * 0.045 * girth + (0, 0.5), SIDES * 0.1 * girth + (0, 0.8)
    feet, hands = SIDES * (0.03 + stride), shoulders + SIDES * (0.02 + swing) - (0, 0.33)
    stage.paint(face, limbs(hips, feet, 0.045 * girth, 0.7), trousers, PERSON)
    stage.paint(face, boxes(feet[:, 0] - 0.04, 0, feet[:, 0] + 0.04, 0.035), hair * 0.4, PERSON)
    stage.paint(face, limbs(shoulders, hands, 0.03 * girth), shirt * 0.85, PERSON)
    torso = np.array([[0, rng.choice([0.45, 0.28])], [0, 0.82]])  # a jacket or a coat
    stage.paint(face, limbs(torso[:1], torso[1:], 0.11 * girth, 1.15), shirt, PERSON)
    heads = discs([(lean, 0.93), (2 * lean, 0.91)], [(0.06, 0.075), (0.05, 0.065)])
    stage.paint(face, heads, np.stack([hair, skin if rng.random() < 0.7 else hair]), PERSON)
    if rng.random() < 0.3:
        stage.paint(face, boxes(0.1, 0.35, 0.24, 0.52), pick(rng, ANY_COLOUR), PERSON)  # a bag


def build_row(stage: Stage, side: int, rise: float) -> Things:
    """Line one side of the street with buildings, and with trees in the gaps between them."""
    rng, things = stage.rng, Things()
    near, setback, density = rng.uniform((1, 0, 0.5), (6, 2, 0.95)).tolist()
    left, right = sorted((side * (stage.facade + setback), side * (stage.facade + 12)))
    while near < STREET_END - 20:
        length, height = rng.uniform((6, 0.5), (20, 1.5)) * (1, rise)
        if rng.random() < density:
            low, high = np.array([[left, 0, near], [right, max(3, height), near + length]])
            things.append((near + length, partial(paint_building, stage, low, high)))
        else:
            spots = rng.uniform((left, near), (right, near + length), (rng.integers(4), 2)).tolist()
            things += [(z, partial(paint_tree, stage, x, z)) for x, z in spots]
        near += length + rng.choice([0, rng.uniform(0, 6)])
    return things


def furnish(stage: Stage) -> Things:
    """Place trees, cars and people on the street; paint their shadows at once."""
    rng, road, facade, things = stage.rng, stage.road, stage.facade, Things()
    trees, cars, people = rng.integers((0, 1, 0), (8, 5, 5))
    lines = rng.choice([-1, 1], trees) * (road + 0.25 * (facade - road))
    tree_depths = rng.uniform(6, 50, trees)
    car_depths = rng.uniform(5, 10) * stage.zoom - 4 + rng.uniform(4, 12, cars).cumsum()
    people_depths = np.append(rng.uniform(4, 8), rng.uniform(6, 26, people)) * stage.zoom
    for painter, radius, places, depths in (
        (paint_tree, 1.5, lines.tolist(), tree_depths),
        (paint_car, 1.2, stage.visible_x(car_depths, road - 0.8), car_depths),
        (paint_person, 0.35, stage.visible_x(people_depths, facade - 0.5), people_depths),
    ):
        shades = discs(np.stack([places, depths + radius], axis=1), (radius, radius))
        stage.paint(GROUND, shades, np.zeros(3), opacity=0.35)
        things += [(z, partial(painter, stage, x, z)) for x, z in zip(places, depths.tolist(), strict=True)]
    return things


def expose(rng: np.random.Generator, picture: Image.Image, labels: Bytes) -> Bytes:
    """Photograph a picture: texture, blur, exposure, vignetting, a colour cast and noise."""
    size = (labels.shape[0], labels.shape[1])
    relief = smooth_noise(rng, NOISE_GRID, size) * rng.uniform(0, 0.7) + rng.standard_normal(size, dtype=np.float32)
    relief *= (TEXTURE * rng.uniform(0, 1, len(CLASSES))).astype(np.float32)[labels]
    pixels = np.asarray(picture, dtype=np.float32) * (1 + relief[..., None])
    blur = ImageFilter.BoxBlur(max(0.0, rng.uniform(-0.006, 0.01)) * size[0])
    pixels = np.asarray(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(blur), dtype=np.float32)
    saturation, exposure, black, noise = rng.uniform((0, 60, 0, 0), (1.4, 150, 30, 1)).tolist()
    gain = min(3.0, exposure / (1 + float(pixels.mean()))) * rng.uniform(0.88, 1.12, 3)
    grade = (saturation * np.eye(3) + (1 - saturation) / 3) * gain
    rows, columns = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
    vignette = (1 - rng.uniform(0, 0.25) * (rows**2 + columns**2)).astype(np.float32)
    pixels = (pixels @ grade.astype(np.float32) + np.float32(black)) * vignette[..., None]
    pixels += np.float32(12 * noise**2) * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def street_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """Draw a random street of size (height, width): its image (H, W, 3) and its label map (H, W)."""
    stage, rise, blocks = Stage(rng, size), rng.uniform(3, 22), np.arange(-110, 110, 12)
    paint_ground(stage)
    # The skyline starts below the ground, since rounding may leave the ground's last pixels unpainted.
    skyline = boxes(blocks, -1.5, blocks + 12, np.maximum(3, rise * rng.uniform(0.3, 1.2, len(blocks))))
    tones = pick(rng, WALL) * rng.uniform(0.7, 1.2, (len(blocks), 1))
    stage.paint(upright(0, STREET_END), skyline, tones, BUILDING)
    things = build_row(stage, -1, rise) + build_row(stage, 1, rise) + furnish(stage)
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()
    picture, stencil = sky(stage), Image.new("L", (stage.width, stage.height), SKY)
    stage.draw(picture, stencil)
    labels = np.asarray(stencil)[::SUPERSAMPLING, ::SUPERSAMPLING].copy()
    return expose(rng, picture.reduce(SUPERSAMPLING), labels), labels


def street_scenes(n: int, size: tuple[int, int], seed: int) -> tuple[Bytes, Bytes]:
    """Draw images (n, H, W, 3) and label maps (n, H, W); scene i depends only on (seed, i)."""
    images, labels = np.empty((n, *size, 3), dtype=np.uint8), np.empty((n, *size), dtype=np.uint8)
    for i in range(n):
        images[i], labels[i] = street_scene(np.random.default_rng([seed, i]), size)
    return images, labels


class StreetSplit:
    """Procedural street scenes, drawn from a seed."""

    def __init__(self, n: int, size: tuple[int, int], seed: int) -> None:
        images, labels = street_scenes(n, size, seed)
        self._images, self._labels = torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels)
        self.names = tuple(f"street-{seed}-{index}" for index in range(n))

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) uint8."""
        return self._images[index]

    def check_image(self, index: int) -> None:
        """Do nothing: every image is in memory."""

    def label(self, index: int, full: bool = False) -> Tensor:  # noqa: ARG002 - drawn at one size
        """Return label map `index`, (H, W) uint8."""
        return self._labels[index]


def load_street(size: tuple[int, int], n_train: int = 368, n_val: int = 48, n_test: int = 120) -> Dataset:
    """Draw the built-in street scenes at (height, width), the same in every call."""
    train, val, test = (StreetSplit(n, size, seed) for seed, n in enumerate((n_train, n_val, n_test)))
    return Dataset("street scenes", CLASSES, COLOURS, train, val, test)
