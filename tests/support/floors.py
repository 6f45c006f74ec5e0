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
#: Rooms whose subject is Ray; of the others only the module that is named alone may import it.
RAY = {"cluster", "progress", "tune", "study"}
RAY_DATA = "datasets/ray_data.py"
#: What runs studies, in a room that does without Ray.
RAY_AUDIT = "audit/arms.py"
