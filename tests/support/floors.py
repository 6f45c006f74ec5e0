"""The floors of the house, lowest first; what a floor holds may not import from its neighbours on the floor either."""

FLOORS = (
    "system",
    "settings genotypes kernels catalogue",
    "degradations networks images hpo cluster",
    "datasets results progress export",
    "tune evaluation cli",
    "training",
    "search",
    "study",
    "audit",
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
#: Rooms whose subject is Ray; below the one that is named alone only the module beside it may import Ray.
RAY = {"cluster", "progress", "tune", "study"}
RAY_DATA = "datasets/ray_data.py"
