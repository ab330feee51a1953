"""A built-in procedural data set: driver's-eye street scenes with exact label maps.

It stands in where CamVid is not at hand. A street is laid out in metres, seen by a camera whose
place, lens and tilt vary, and painted from far to near; light, fog, blur and sensor noise vary too.
Colours overlap between the classes on purpose (cars grey as the road, walls of glass like the sky
or green as trees), so that shape, texture and position have to be learned.
"""

import colorsys
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("sky", "road", "building", "tree", "car", "person")
SKY, ROAD, BUILDING, TREE, CAR, PERSON = range(len(CLASSES))

Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]
Palette = tuple[tuple[float, float, float, float, float, float], ...]
Things = list[tuple[float, Callable[[], None]]]

SUPERSAMPLING = 2
STREET_END = 90.0  # metres
NOISE_GRID, CLOUD_GRID = (24, 32), (5, 7)
TEXTURE = np.array([0.03, 0.15, 0.15, 0.3, 0.08, 0.15])  # each class's strongest, as a share of its brightness

# Palettes: each row is a range of hue, of saturation and of value, low and high.
ANY_COLOUR: Palette = ((0, 1, 0.3, 0.9, 0.2, 0.9), (0, 1, 0, 0.15, 0.08, 0.95))
GLASS: Palette = ((0.5, 0.65, 0.1, 0.5, 0.1, 0.5), (0.5, 0.6, 0.1, 0.4, 0.6, 0.9), (0, 1, 0, 0.2, 0.05, 0.3))
GREY: Palette = ((0, 1, 0, 0.06, 0.25, 0.9), (0.55, 0.65, 0.05, 0.2, 0.2, 0.5))
EARTH: Palette = ((0.04, 0.12, 0.1, 0.4, 0.3, 0.7), (0.18, 0.3, 0.15, 0.4, 0.25, 0.5))
BRICK_AND_CREAM: Palette = ((0, 0.06, 0.3, 0.7, 0.3, 0.7), (0.07, 0.15, 0.15, 0.55, 0.55, 0.95))
WALL: Palette = (*BRICK_AND_CREAM, (0.52, 0.64, 0.1, 0.5, 0.35, 0.95), (0.2, 0.42, 0.15, 0.5, 0.2, 0.7), *ANY_COLOUR)
GREENERY: Palette = ((0.2, 0.4, 0.3, 0.8, 0.15, 0.6), (0.3, 0.48, 0.1, 0.4, 0.1, 0.4))
LEAVES: Palette = (*GREENERY, (0.02, 0.15, 0.5, 0.9, 0.4, 0.9), (0.88, 0.98, 0.15, 0.4, 0.7, 0.95))
SKIN: Palette = ((0.04, 0.09, 0.3, 0.65, 0.25, 0.95),)
HEADLIGHT: Palette = ((0.08, 0.15, 0.1, 0.6, 0.85, 1),)
TAIL_LIGHT: Palette = ((0, 0.03, 0.8, 1, 0.5, 1),)
# Zenith and horizon of each weather: clear, hazy, sunset, overcast, storm, night.
SKIES: tuple[Palette, ...] = (
    ((0.55, 0.62, 0.4, 0.85, 0.5, 0.95), (0.5, 0.6, 0.05, 0.3, 0.8, 1)),
    ((0.55, 0.65, 0.2, 0.6, 0.5, 0.9), (0.1, 0.6, 0, 0.15, 0.8, 1)),
    ((0.6, 0.85, 0.2, 0.5, 0.3, 0.6), (0.02, 0.12, 0.4, 0.8, 0.6, 1)),
    ((0.5, 0.7, 0, 0.12, 0.45, 0.85), (0, 1, 0, 0.08, 0.6, 0.95)),
    ((0.55, 0.7, 0.05, 0.3, 0.2, 0.4), (0.1, 0.6, 0.05, 0.2, 0.35, 0.7)),
    ((0.58, 0.75, 0.3, 0.8, 0.03, 0.2), (0.5, 0.75, 0.1, 0.6, 0.1, 0.3)),
)

GROUND = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]], dtype=float)
ANGLES = np.linspace(0, 2 * np.pi, 9, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def pick(rng: np.random.Generator, palette: Palette) -> Floats:
    """A colour (0 to 255) from one of the palette's ranges."""
    row, (hue, saturation, value) = palette[rng.integers(len(palette))], rng.random(3).tolist()
    span = (row[1] - row[0], row[3] - row[2], row[5] - row[4])
    rgb = colorsys.hsv_to_rgb(row[0] + span[0] * hue, row[2] + span[1] * saturation, row[4] + span[2] * value)
    return 255 * np.array(rgb)


def boxes(left: ArrayLike, bottom: ArrayLike, right: ArrayLike, top: ArrayLike) -> Floats:
    """Rectangles (n, 4, 2) from their edges, each a number or n of them."""
    corners = np.empty((max(np.size(edge) for edge in (left, bottom, right, top)), 4, 2))
    corners[:, ::3, 0], corners[:, 1:3, 0] = np.reshape(left, (-1, 1)), np.reshape(right, (-1, 1))
    corners[:, :2, 1], corners[:, 2:, 1] = np.reshape(bottom, (-1, 1)), np.reshape(top, (-1, 1))
    return corners


def limbs(starts: ArrayLike, ends: ArrayLike, girth: ArrayLike, taper: float = 1) -> Floats:
    """Bars (n, 4, 2) from starts to ends (n, 2), as wide on either side as girth (n)."""
    (x0, y0), (x1, y1), girth = np.transpose(starts), np.transpose(ends), np.asarray(girth)
    bars = boxes(x0 - girth, y0, x0 + girth, y1)
    bars[:, 2, 0], bars[:, 3, 0] = x1 + taper * girth, x1 - taper * girth
    return bars


def discs(centres: ArrayLike, radii: ArrayLike) -> Floats:
    """Round polygons (n, 9, 2) around centres (n, 2), of radii (n, 2)."""
    return np.reshape(centres, (-1, 1, 2)) + np.reshape(radii, (-1, 1, 2)) * CIRCLE


def upright(x: float, z: float, size: float = 1) -> Floats:
    """A square face that stands at (x, z) and looks at the camera."""
    return np.array([[x, 0, z], [x + size, 0, z], [x + size, size, z], [x, size, z]])


def smooth_noise(rng: np.random.Generator, grid: tuple[int, int], size: tuple[int, int]) -> Floats:
    coarse = Image.fromarray(rng.standard_normal(grid, dtype=np.float32))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC), dtype=np.float32)


class Stage:
    """One street's camera and light, and what is painted there.

    Everything is painted on a face: four corners (x, y, z) in metres, anticlockwise from the bottom
    left, which carry coordinates (u, v) from (0, 0) to (1, 1).
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.height, self.width = (SUPERSAMPLING * side for side in size)
        self.road = rng.uniform(3, 7)
        self.facade = self.road + rng.uniform(1.5, 5)
        self.zoom = rng.uniform(0.7, 1.1)
        self.eye = np.array([rng.uniform(-0.6, 0.6) * self.road, rng.uniform(1.2, 2.4), 0])
        self.vanishing = np.array([self.width, self.height]) * rng.uniform((0.25, 0.3), (0.75, 0.6))
        self.roll, self.bend = rng.normal(0, (0.025, 0.0015))
        zenith, horizon = SKIES[rng.integers(len(SKIES))]
        self.zenith, self.haze = pick(rng, (zenith,)), pick(rng, (horizon,))
        self.fog = rng.choice([0.001, 0.004, rng.uniform(0.01, 0.04)], p=[0.5, 0.25, 0.25])
        self.light = (0.3 + 0.8 * self.haze.mean() / 255) * rng.uniform(0.9, 1.1, 3)
        self.is_dark = bool(self.light.mean() < 0.65)
        self.shadow = 0 if self.is_dark else rng.uniform(-0.4, 0.6)
        self.strokes: list[tuple[Floats, Floats, Floats, int | None, float]] = []

    def paint(
        self, face: Floats, shapes: Floats, colours: Floats, label: int | None = None, opacity: float = 1
    ) -> None:
        """Fill polygons (n, k, 2), given in the face's (u, v), with colours (n, 3) or (3,).

        Without a label the paint lies on what is there: windows, markings, shadows.
        """
        if colours.ndim == 1:
            colours = colours[None].repeat(len(shapes), axis=0)
        self.strokes.append((face, shapes, colours, label, opacity))

    def faces(self, low: Floats, high: Floats, taper: tuple[float, float] = (0, 0)) -> list[Floats]:
        """A block's visible faces from back to front: top, the side towards the camera, front."""
        (x0, y0, z0), (x1, y1, z1), (inset_x, inset_z) = low.tolist(), high.tolist(), taper
        floor = ((x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1))
        x0, x1, z0, z1 = x0 + inset_x, x1 - inset_x, z0 + inset_z, z1 - inset_z
        ceiling = ((x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1))
        seen = [ceiling] if y1 < self.eye[1] else []
        across = [(x - self.eye[0]) / z + self.bend * z for x, _, z in floor]
        if across[3] < across[0]:
            seen.append((floor[0], floor[3], ceiling[3], ceiling[0]))
        elif across[2] > across[1]:
            seen.append((floor[1], floor[2], ceiling[2], ceiling[1]))
        return [np.array(face) for face in (*seen, (floor[0], floor[1], ceiling[1], ceiling[0]))]

    def visible_x(self, depth: float, limit: float) -> float:
        """A random place at this depth that is in the picture and within the limits of the street."""
        edges = (np.array([0.06, 0.94]) - self.vanishing[0] / self.width) / self.zoom
        low, high = np.clip((edges - self.bend * depth) * depth + self.eye[0], -limit, limit)
        return float(self.rng.uniform(low, high))

    def project(self, points: Floats) -> Floats:
        """Pixels (n, 2) of points (n, 3) in metres; z runs along the street, which may bend."""
        x, y, z = (points - self.eye).T
        across = self.zoom * self.width * (x / z + self.bend * z)
        down = -self.zoom * self.width * y / z
        pixels: Floats = self.vanishing + np.stack([across - self.roll * down, down + self.roll * across], axis=1)
        return pixels

    def draw(self, picture: Image.Image, labels: Image.Image) -> None:
        """Draw all that was painted, in order; one projection for all of it is what makes it fast."""
        faces, shapes, colours, kinds, opacities = zip(*self.strokes, strict=True)
        counts, corners = [len(shape) for shape in shapes], [shape.shape[1] for shape in shapes]
        u, v = np.concatenate([shape.reshape(-1, 2) for shape in shapes]).T[..., None]
        face = np.repeat(np.array(faces), np.multiply(counts, corners), axis=0)
        points = (face[:, 0] * (1 - u) + face[:, 1] * u) * (1 - v) + (face[:, 3] * (1 - u) + face[:, 2] * u) * v
        pixels = self.project(points)
        ends = np.cumsum(np.repeat(corners, counts))
        starts = ends - np.repeat(corners, counts)
        clear = np.exp(-self.fog * points[starts, 2:])
        shaded = np.concatenate(colours) * self.light * clear + self.haze * (1 - clear)
        alphas = np.repeat(opacities, counts)[:, None]
        fills = np.concatenate([shaded, 255 * alphas], axis=1).clip(0, 255).astype(int)
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        is_seen = ((high > 0) & (low < (self.width, self.height)) & (high - low > 0.8)).all(axis=1)
        brush, stencil, outlines = ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(labels), pixels.ravel().tolist()
        all_kinds = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
        for i in np.flatnonzero(is_seen).tolist():
            outline = outlines[2 * starts[i] : 2 * ends[i]]
            brush.polygon(outline, tuple(fills[i]))
            if all_kinds[i] is not None:
                stencil.polygon(outline, all_kinds[i])


def sky(stage: Stage) -> Image.Image:
    rng = stage.rng
    descent = np.linspace(0, stage.height / stage.vanishing[1], NOISE_GRID[0]).clip(0, 1)[:, None, None]
    gradient = stage.zenith + (stage.haze - stage.zenith) * descent
    billows = smooth_noise(rng, CLOUD_GRID, NOISE_GRID) + 0.3 * rng.standard_normal(NOISE_GRID)
    cover = (billows * rng.uniform(0.1, 0.8) + rng.uniform(-0.8, 0.4)).clip(0, 0.9)[..., None]
    pixels = gradient + (stage.haze * rng.uniform(0.7, 1.2) - gradient) * cover
    grid = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return grid.resize((stage.width, stage.height), Image.Resampling.BILINEAR)


def paint_ground(stage: Stage) -> None:
    rng, road, black = stage.rng, stage.road, np.zeros(3)
    marks = np.geomspace(1, STREET_END, 11)
    asphalt, pavement = pick(rng, GREY), pick(rng, GREY + EARTH)
    lines = asphalt + (255 - asphalt) * rng.uniform(0.2, 0.9)
    for reach, colour in ((200, pavement), (road + 0.3, lines * 0.8), (road, asphalt)):
        stage.paint(
            GROUND, boxes(-reach, marks[:-1], reach, marks[1:]), colour * rng.uniform(0.95, 1.05, (10, 1)), ROAD
        )
    x, z = rng.uniform((-road, 2), (road, 40), (8, 2)).T
    patches = boxes(x, z, x + rng.uniform(0.1, 3, 8), z + rng.uniform(0.3, 6, 8))
    stage.paint(GROUND, patches, asphalt * rng.uniform(0.75, 1.2, (8, 1)))
    period, share = rng.uniform((4, 0.3), (9, 1))
    dashes = np.arange(1, STREET_END / 2, period)
    for lane in np.linspace(-road, road, rng.integers(2, 5))[1:-1]:
        stage.paint(GROUND, boxes(lane - 0.08, dashes, lane + 0.08, dashes + period * share), lines)
    if rng.random() < 0.4:
        stripes, start = np.arange(-road, road, 1.0), rng.uniform(4, 20)
        stage.paint(GROUND, boxes(stripes, start, stripes + 0.5, start + 3), lines)
    if stage.shadow > 0:
        z, side = np.sort(rng.uniform(1, STREET_END, 7)), stage.facade * rng.choice([-1, 1])
        shades = boxes(-side, z[:-1], side * rng.uniform(-1, 1, 6), z[1:])
        stage.paint(GROUND, shades, black, opacity=stage.shadow)


def paint_building(stage: Stage, low: Floats, high: Floats) -> None:
    rng = stage.rng
    wall, trim = pick(rng, WALL), pick(rng, ANY_COLOUR)
    panes = np.stack([pick(rng, GLASS), pick(rng, GLASS), pick(rng, HEADLIGHT if stage.is_dark else GLASS)])
    storey, bay, width, height = rng.uniform((2.7, 2, 0.25, 0.2), (4, 4.5, 0.95, 0.7)).tolist()
    is_coursed, has_shops, has_blank_front = (rng.random(3) < 0.5).tolist()
    rise = float(high[1] - low[1])
    rows = max(1, round(rise / storey))
    for face in stage.faces(low, high):
        is_front = face[0, 2] == face[1, 2]
        span = float(np.abs(face[1] - face[0]).max())
        columns = max(1, round(span / bay))
        scale = (columns, rows)
        cuts = np.arange(0, 4) / 4
        stage.paint(face, boxes(cuts, 0, cuts + 0.25, 1), wall * (0.8 if is_front else 1), BUILDING)
        if is_coursed:
            courses = np.arange(0.3, rise, storey / 3) / rise
            stage.paint(face, boxes(0, courses, 1, courses + 0.15 / rise), wall * 0.85)
        if not (is_front and has_blank_front) and rows > 1:
            u, v = np.tile(np.arange(columns), rows - 1), np.repeat(np.arange(1, rows), columns)
            u = u + (1 - width) / 2
            windows = boxes(u, v + 0.2, u + width, v + 0.2 + height)
            stage.paint(face, windows / scale, panes[rng.integers(3, size=len(u))])
        if has_shops:
            doors = np.arange(columns)
            fronts = boxes(doors + 0.1, 0.05, doors + rng.uniform(0.3, 0.9, columns), 0.7)
            stage.paint(face, fronts / scale, panes[rng.integers(3, size=columns)])
        sign = boxes(0, 0.75 / rows, 1, 0.95 / rows) if has_shops else boxes(0.45, 0, 0.45 + 1.1 / span, 2.2 / rise)
        stage.paint(face, sign, trim)


def paint_tree(stage: Stage, x: float, z: float) -> None:
    rng = stage.rng
    face, size = upright(x, z, rng.uniform(0.6, 1.6)), rng.uniform(0.9, 2.2)
    bark, leaf, kind, trunk = pick(rng, EARTH + GREY) * 0.6, pick(rng, LEAVES), rng.random(), rng.uniform(1.5, 2.6)
    stage.paint(face, limbs([(0, 0)], [(0, trunk + 0.5)], 0.16, 0.7), bark, TREE)
    if kind < 0.2:
        tips, angles = np.array([[0.0, trunk]]), np.zeros(1)
        for generation in range(1, 6):
            tips, angles = tips.repeat(2, axis=0), angles.repeat(2) + rng.uniform(-0.8, 0.8, 2**generation)
            ends = tips + 1.6 * 0.75**generation * np.stack([np.sin(angles), np.cos(angles)], axis=1)
            stage.paint(face, limbs(tips, ends, 0.13 / generation), bark, TREE)
            tips = ends
    elif kind < 0.35:
        levels = np.arange(6)
        feet = np.stack([0 * levels, 0.8 * levels + 0.6], axis=1)
        tiers = limbs(feet, feet + np.array([0, 1.6]), size * (1 - levels / 7), 0.1)
        stage.paint(face, tiers, leaf * rng.uniform(0.7, 1, (6, 1)), TREE)
    else:
        crown = np.array([size, rng.uniform(1.2, 2.2)])
        for count, grain, label in ((14, 0.5, TREE), (20, 0.15, None)):
            places = rng.uniform(-0.75, 0.75, (count, 2))
            places[:, 0] *= np.sqrt(1 - places[:, 1] ** 2)
            tones = leaf * (0.85 + 0.3 * places[:, 1:] + rng.uniform(-0.2, 0.2, (count, 1)))
            radii = crown * rng.uniform(0.6, 1.2, (count, 2)) * grain
            stage.paint(face, discs(places * crown + (0, trunk + crown[1]), radii), tones, label)


def paint_car(stage: Stage, x: float, z: float) -> None:
    rng = stage.rng
    colour, glass, black = pick(rng, ANY_COLOUR), pick(rng, GLASS) * 0.7, np.full(3, 25)
    lamps = pick(rng, TAIL_LIGHT if rng.random() < 0.6 else HEADLIGHT) / stage.light
    width, length, deck, cabin = rng.uniform((1.6, 3.4, 0.75, 0.4), (2, 5.2, 1.05, 0.75)).tolist()
    rear, bonnet, slope = rng.uniform((0, 0.6, 0.1), (0.8, 1.3, 0.6)).tolist()
    if rng.random() < 0.2:  # a van
        cabin, rear, bonnet = cabin + 0.8, 0, 0.3
    is_along = rng.random() < 0.7
    along, size = np.array([0, 0, 1] if is_along else [1, 0, 0]), [width, 0, length] if is_along else [length, 0, width]
    low, up = np.array([x - size[0] / 2, 0.3, z]), np.array([0, deck - 0.3, 0])
    base, high = low + up + rear * along, low + size + up
    roof = high + np.array([0, cabin, 0]) - bonnet * along
    for face in stage.faces(low, high):
        stage.paint(face, boxes(0, 0, 1, 1), colour * rng.uniform(0.8, 1.1), CAR)
        span = float(np.abs(face[1] - face[0]).max())
        if face[0, 1] < face[3, 1] and span > 2.1:
            for radius, tone in ((0.34, black), (0.18, np.full(3, 130))):
                wheels = discs([[0.19, 0.04 / up[1]], [0.8, 0.04 / up[1]]], [radius / span, radius / up[1]])
                stage.paint(face, wheels, tone, CAR)
        elif face[0, 1] < face[3, 1]:
            stage.paint(face, boxes([0.05, 0.8], -0.55, [0.2, 0.95], 0), black, CAR)
            stage.paint(face, boxes([0, 0.36], [0, 0.25], [1, 0.64], [0.2, 0.42]), np.stack([colour * 0.5, black * 8]))
            stage.paint(face, boxes([0.04, 0.8], 0.5, [0.2, 0.96], 0.8), lamps)
    for face in stage.faces(base, roof, (0.15, slope) if is_along else (slope, 0.15)):
        stage.paint(face, boxes(0, 0, 1, 1), colour * rng.uniform(0.8, 1.1), CAR)
        if face[0, 1] < face[3, 1]:
            is_long = np.abs(face[1] - face[0]).max() > 2.1
            stage.paint(
                face, boxes([0.06, 0.53] if is_long else 0.08, 0.1, [0.48, 0.94] if is_long else 0.92, 0.85), glass
            )


def paint_person(stage: Stage, x: float, z: float) -> None:
    rng = stage.rng
    face = upright(x, z, rng.uniform(1.5, 1.95) if rng.random() < 0.85 else 1.15)
    girth, stride, swing, lean = rng.uniform((0.85, 0, 0, -0.02), (1.35, 0.13, 0.07, 0.02)).tolist()
    shirt, trousers, hair, skin = (pick(rng, palette) for palette in (ANY_COLOUR, ANY_COLOUR, EARTH + GREY, SKIN))
    sides = np.array([[-1, 0], [1, 0]])
    hips, shoulders = sides * 0.045 * girth + (0, 0.5), sides * 0.1 * girth + (0, 0.8)
    feet, hands = sides * (0.03 + stride), shoulders + sides * (0.02 + swing) - (0, 0.33)
    stage.paint(face, limbs(hips, feet, 0.045 * girth, 0.7), trousers, PERSON)
    stage.paint(face, limbs(feet, feet + (0, 0.035), 0.04), hair * 0.4, PERSON)
    stage.paint(face, limbs(shoulders, hands, 0.03 * girth), shirt * 0.85, PERSON)
    stage.paint(face, limbs([(0, rng.choice([0.45, 0.28]))], [(0, 0.82)], 0.11 * girth, 1.15), shirt, PERSON)
    heads = discs([(lean, 0.93), (2 * lean, 0.91)], [(0.06, 0.075), (0.05, 0.065)])
    stage.paint(face, heads, np.stack([hair, skin if rng.random() < 0.7 else hair]), PERSON)
    if rng.random() < 0.3:
        stage.paint(face, boxes(0.1, 0.35, 0.24, 0.52), pick(rng, ANY_COLOUR), PERSON)


def build_row(stage: Stage, side: int, storeys: float) -> Things:
    """The buildings along one side of the street, with trees in the gaps between them."""
    rng, things = stage.rng, Things()
    near, setback, density = rng.uniform((1, 0, 0.5), (6, 2, 0.95)).tolist()
    left, right = sorted((side * (stage.facade + setback), side * (stage.facade + 12)))
    while near < STREET_END - 20:
        length, height = rng.uniform((6, 0.5), (20, 1.5)) * (1, storeys)
        if rng.random() < density:
            low, high = np.array([[left, 0, near], [right, max(3, height), near + length]])
            things.append((near + length, partial(paint_building, stage, low, high)))
        else:
            spots = rng.uniform((left, near), (right, near + length), (rng.integers(4), 2)).tolist()
            things += [(z, partial(paint_tree, stage, x, z)) for x, z in spots]
        near += length + rng.choice([0, rng.uniform(0, 6)])
    return things


def furnish(stage: Stage) -> Things:
    """The street's trees, cars and people; what they stand on is shaded at once."""
    rng, road, facade = stage.rng, stage.road, stage.facade
    count = rng.integers(9)
    lines = rng.choice([-1, 1], count) * (road + 0.25 * (facade - road))
    placed = [(paint_tree, x, z, 1.5) for x, z in zip(lines, rng.uniform(6, 50, count).tolist(), strict=True)]
    depths = rng.uniform(5, 10) * stage.zoom - 4 + np.cumsum(rng.uniform(4, 12, rng.integers(1, 5)))
    placed += [(paint_car, stage.visible_x(z, road - 0.8), z, 1.2) for z in depths.tolist()]
    depths = np.append(rng.uniform(4, 8), rng.uniform(6, 26, rng.integers(5))) * stage.zoom
    placed += [(paint_person, stage.visible_x(z, facade - 0.5), z, 0.35) for z in depths.tolist()]
    for _, x, z, radius in placed:
        stage.paint(GROUND, discs((x, z + radius), (radius, radius)), np.zeros(3), opacity=0.35)
    return [(z, partial(painter, stage, x, z)) for painter, x, z, _ in placed]


def expose(rng: np.random.Generator, picture: Image.Image, labels: Bytes) -> Bytes:
    """The picture as a camera takes it: texture, blur, exposure, vignetting, a colour cast and noise."""
    size = (labels.shape[0], labels.shape[1])
    relief = smooth_noise(rng, NOISE_GRID, size) * rng.uniform(0, 0.7) + rng.standard_normal(size, dtype=np.float32)
    relief *= (TEXTURE * rng.uniform(0, 1, len(CLASSES))).astype(np.float32)[labels]
    pixels = np.asarray(picture, dtype=np.float32) * (1 + relief[..., None])
    blur = ImageFilter.GaussianBlur(max(0.0, rng.uniform(-0.006, 0.009)) * size[0])
    pixels = np.asarray(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(blur), dtype=np.float32)
    grey = pixels.mean(axis=-1, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(rng.uniform(0, 1.4))
    exposure = min(3.0, rng.uniform(60, 150) / (1 + float(grey.mean()))) * rng.uniform(0.88, 1.12, 3)
    rows, columns = np.linspace(-1, 1, size[0])[:, None], np.linspace(-1, 1, size[1])
    vignette = 1 - rng.uniform(0, 0.25) * (rows**2 + columns**2)
    pixels = (pixels * exposure.astype(np.float32) + rng.uniform(0, 30)) * vignette[..., None].astype(np.float32)
    pixels += 12 * rng.random() ** 2 * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def street_scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """A random street of size (height, width): its image (H, W, 3) and its label map (H, W)."""
    stage = Stage(rng, size)
    paint_ground(stage)
    storeys = rng.uniform(3, 22)
    lefts = np.arange(-110, 110, 12)
    skyline = boxes(lefts, 0, lefts + 12, np.maximum(3, storeys * rng.uniform(0.3, 1.2, len(lefts))))
    tones = pick(rng, WALL) * rng.uniform(0.7, 1.2, (len(lefts), 1))
    stage.paint(upright(0, STREET_END), skyline, tones, BUILDING)
    things = build_row(stage, -1, storeys) + build_row(stage, 1, storeys) + furnish(stage)
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()
    picture, stencil = sky(stage), Image.new("L", (stage.width, stage.height), SKY)
    stage.draw(picture, stencil)
    labels = np.asarray(stencil)[::SUPERSAMPLING, ::SUPERSAMPLING].copy()
    return expose(rng, picture.reduce(SUPERSAMPLING), labels), labels


def street_scenes(n: int, size: tuple[int, int], seed: int) -> tuple[Bytes, Bytes]:
    """Images (n, H, W, 3) and label maps (n, H, W); scene i depends on (seed, i) alone."""
    images, labels = np.empty((n, *size, 3), dtype=np.uint8), np.empty((n, *size), dtype=np.uint8)
    for i in range(n):
        images[i], labels[i] = street_scene(np.random.default_rng([seed, i]), size)
    return images, labels
