"""Palettes and shapes for street scenes, and a stage that projects them into the camera."""

import colorsys

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.floating]
Palette = tuple[tuple[float, float, float, float, float, float], ...]

UNLABELLED = -1
SUPERSAMPLING = 2
MINIMUM_EXTENT = 1.0  # pixels of the supersampled picture; smaller shapes are not drawn
CIRCLE = np.array([[np.cos(angle), np.sin(angle)] for angle in np.arange(9) * 2 * np.pi / 9])

# Each row of a palette holds low and high of hue, of saturation and of value.
ANY_COLOUR: Palette = ((0, 1, 0.3, 0.9, 0.2, 0.9), (0, 1, 0, 0.15, 0.08, 0.95))
GLASS: Palette = ((0.5, 0.65, 0.1, 0.5, 0.1, 0.5), (0.5, 0.6, 0.1, 0.4, 0.6, 0.9), (0, 1, 0, 0.2, 0.05, 0.3))
GREY: Palette = ((0, 1, 0, 0.06, 0.25, 0.9), (0.55, 0.65, 0.05, 0.2, 0.2, 0.5))
EARTH: Palette = ((0.04, 0.12, 0.1, 0.4, 0.3, 0.7), (0.18, 0.3, 0.15, 0.4, 0.25, 0.5))
PAINTED: Palette = ((0.07, 0.15, 0.15, 0.55, 0.55, 0.95), (0.2, 0.42, 0.15, 0.5, 0.2, 0.7), *ANY_COLOUR)
WALL: Palette = ((0, 0.06, 0.3, 0.7, 0.3, 0.7), (0.52, 0.64, 0.1, 0.5, 0.35, 0.95), *PAINTED)
GREENERY: Palette = ((0.2, 0.4, 0.3, 0.8, 0.15, 0.6), (0.3, 0.48, 0.1, 0.4, 0.1, 0.4))
LEAVES: Palette = (*GREENERY, (0.02, 0.15, 0.5, 0.9, 0.4, 0.9), (0.88, 0.98, 0.15, 0.4, 0.7, 0.95))
SKIN: Palette = ((0.04, 0.09, 0.3, 0.65, 0.25, 0.95),)
LAMP: Palette = ((0.08, 0.15, 0.1, 0.6, 0.85, 1),)
TAIL_LIGHT: Palette = ((0, 0.03, 0.8, 1, 0.5, 1),)
# Colours of zenith and horizon for each weather: clear, hazy, sunset, overcast, storm, night.
SKIES: tuple[Palette, ...] = (
    ((0.55, 0.62, 0.4, 0.85, 0.5, 0.95), (0.5, 0.6, 0.05, 0.3, 0.8, 1)),
    ((0.55, 0.65, 0.2, 0.6, 0.5, 0.9), (0.1, 0.6, 0, 0.15, 0.8, 1)),
    ((0.6, 0.85, 0.2, 0.5, 0.3, 0.6), (0.02, 0.12, 0.4, 0.8, 0.6, 1)),
    ((0.5, 0.7, 0, 0.12, 0.45, 0.85), (0, 1, 0, 0.08, 0.6, 0.95)),
    ((0.55, 0.7, 0.05, 0.3, 0.2, 0.4), (0.1, 0.6, 0.05, 0.2, 0.35, 0.7)),
    ((0.58, 0.75, 0.3, 0.8, 0.03, 0.2), (0.5, 0.75, 0.1, 0.6, 0.1, 0.3)),
)


def pick(rng: np.random.Generator, palette: Palette) -> Floats:
    """Draw a colour (0 to 255) from one of the palette's ranges."""
    row, shares = palette[rng.integers(len(palette))], rng.random(3).tolist()
    hue, saturation, value = (row[2 * i] + (row[2 * i + 1] - row[2 * i]) * shares[i] for i in range(3))
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def boxes(left: ArrayLike, bottom: ArrayLike, right: ArrayLike, top: ArrayLike) -> Floats:
    """Return rectangles (n, 4, 2) from their edges, each a number or an array (n)."""
    corners = np.empty((4, 2, np.broadcast(left, bottom, right, top).size))
    corners[::3, 0], corners[1:3, 0], corners[:2, 1], corners[2:, 1] = left, right, bottom, top
    return corners.transpose(2, 0, 1)


WHOLE, STRIPS = boxes(0, 0, 1, 1), boxes(np.arange(0, 4) / 4, 0, np.arange(1, 5) / 4, 1)


def limbs(starts: Floats, ends: Floats, girth: float | Floats, taper: float = 1) -> Floats:
    """Return bars (n, 4, 2) from starts to ends (n, 2), of half-width girth (n)."""
    bars = boxes(starts[:, 0] - girth, starts[:, 1], starts[:, 0] + girth, ends[:, 1])
    bars[:, 2, 0], bars[:, 3, 0] = ends[:, 0] + taper * girth, ends[:, 0] - taper * girth
    return bars


def discs(centres: ArrayLike, radii: ArrayLike) -> Floats:
    """Return round polygons (n, 9, 2) with centres (n, 2) and radii (n, 2)."""
    return np.reshape(centres, (-1, 1, 2)) + np.reshape(radii, (-1, 1, 2)) * CIRCLE


def upright(x: float, z: float, size: float = 1) -> Floats:
    """Return a square face that stands at (x, z) and faces the camera."""
    return np.array([[x, 0, z], [x + size, 0, z], [x + size, size, z], [x, size, z]])


def smooth_noise(rng: np.random.Generator, grid: tuple[int, int], size: tuple[int, int]) -> Floats:
    """Draw Gaussian noise on a coarse grid, and enlarge it to (height, width)."""
    coarse = Image.fromarray(rng.standard_normal(grid, dtype=np.float32))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.float32)


class Stage:
    """Camera and light of one street, and the shapes painted there.

    Shapes are painted on faces: four corners (x, y, z) in metres, anticlockwise from the bottom left, with coordinates
    (u, v) from (0, 0) to (1, 1).
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.height, self.width = (SUPERSAMPLING * side for side in size)
        self.road, self.zoom = rng.uniform((3, 0.7), (7, 1.1)).tolist()
        self.facade = self.road + rng.uniform(1.5, 5)
        self.eye = np.array([rng.uniform(-0.6, 0.6) * self.road, rng.uniform(1.2, 2.4), 0])
        self.vanishing = np.array([self.width, self.height]) * rng.uniform((0.25, 0.3), (0.75, 0.6))
        self.roll, self.bend = rng.normal(0, (0.025, 0.0015)).tolist()
        self.zenith, self.haze = (pick(rng, (row,)) for row in SKIES[rng.integers(len(SKIES))])
        self.fog = rng.uniform(0.01, 0.04) if rng.random() < 0.25 else 0.002
        self.light = (0.3 + 0.8 * self.haze.mean() / 255) * rng.uniform(0.9, 1.1, 3)
        self.is_dark = bool(self.light.mean() < 0.65)
        self.strokes: list[tuple[Floats, Floats, Floats, int, float]] = []

    def paint(self, face: Floats, shapes: Floats, colours: Floats, label: int = UNLABELLED, opacity: float = 1) -> None:
        """Fill polygons (n, k, 2), in the face's (u, v), with colours (n, 3) or (3,).

        Without a label, pixels keep theirs: for windows, markings, shadows.
        """
        self.strokes.append((face, shapes, colours + np.zeros((len(shapes), 3)), label, opacity))

    def faces(self, low: Floats, high: Floats, taper: tuple[float, float] = (0, 0)) -> list[Floats]:
        """Return a block's visible faces from back to front: top, side towards the camera, front."""
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

    def visible_x(self, depths: Floats, limit: float) -> list[float]:
        """Draw an x for each depth, in the picture and within `limit` of the street's middle."""
        edges = (np.array([[0.06], [0.94]]) - self.vanishing[0] / self.width) / self.zoom
        low, high = np.clip((edges - self.bend * depths) * depths + self.eye[0], -limit, limit)
        return list(self.rng.uniform(low, high).tolist())

    def project(self, points: Floats) -> Floats:
        """Return pixels (n, 2) of points (n, 3) in metres. z runs along the street, which may bend."""
        x, y, z = (points - self.eye).T
        across, down = self.width * self.zoom * (x / z + self.bend * z), -self.width * self.zoom * y / z
        return np.stack([across - self.roll * down, down + self.roll * across], axis=1) + self.vanishing

    def draw(self, picture: Image.Image, labels: Image.Image) -> None:
        """Draw all strokes in order; one projection for all is fast."""
        faces, shapes, colours, kinds, opacities = zip(*self.strokes, strict=True)
        counts, corners = [len(shape) for shape in shapes], [shape.shape[1] for shape in shapes]
        # From (u, v) on faces to metres to pixels
        u, v = np.concatenate([shape.reshape(-1, 2) for shape in shapes]).T
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
        points = np.einsum("pc,pcd->pd", weights, np.repeat(faces, np.multiply(counts, corners), axis=0))
        pixels, lengths = self.project(points), np.repeat(corners, counts)
        # Leave out what is outside the picture or too small
        starts = np.cumsum(lengths) - lengths
        low, high = np.minimum.reduceat(pixels, starts), np.maximum.reduceat(pixels, starts)
        is_seen = ((high > 0) & (low < (self.width, self.height)) & (high - low > MINIMUM_EXTENT)).all(axis=1)
        # Light and fog
        clear = np.exp(-self.fog * points[starts, 2:])
        shaded = np.concatenate(colours) * self.light * clear + self.haze * (1 - clear)
        fills = np.column_stack([shaded, 255 * np.repeat(opacities, counts)]).clip(0, 255).astype(int)
        plan = np.column_stack([2 * starts, 2 * (starts + lengths), np.repeat(kinds, counts), fills])[is_seen]
        brush, glaze, stencil = ImageDraw.Draw(picture), ImageDraw.Draw(picture, "RGBA"), ImageDraw.Draw(labels)
        outlines = pixels.ravel().tolist()
        for start, end, kind, *fill in plan.tolist():
            (brush if fill[3] == 255 else glaze).polygon(outlines[start:end], tuple(fill))
            if kind != UNLABELLED:
                stencil.polygon(outlines[start:end], kind)
