"""The scikit-learn side of sklearn.ts: reads the problem it wrote, solves it, prints one JSON object.

Both take all processors: scikit-learn through its BLAS and, for neighbours, n_jobs.
"""

import json
import sys
import time
import warnings

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

warnings.filterwarnings("ignore")
folder = sys.argv[1]
with open(f"{folder}/problem.json") as file:
    problem = json.load(file)
dim = problem["dim"]
x, test_x = (np.fromfile(f"{folder}/{name}.f32", np.float32).reshape(-1, dim) for name in ("train", "test"))
y, test_y = np.array(problem["labels"]), np.array(problem["testLabels"])


def timed(body):
    wall, cpu = time.perf_counter(), time.process_time()
    result = body()
    return result, {"wallSeconds": time.perf_counter() - wall, "cpuSeconds": time.process_time() - cpu}


def neighbours():
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    queries = test_x / np.linalg.norm(test_x, axis=1, keepdims=True)
    search = NearestNeighbors(n_neighbors=problem["k"], metric="cosine", algorithm="brute", n_jobs=-1).fit(unit)
    return search.kneighbors(queries, return_distance=False)


def logistic():
    fits = []
    for c in problem["c"]:
        model = LogisticRegression(C=c, tol=1e-12, max_iter=problem["maxIterations"]).fit(x.astype(np.float64), y)
        z = x @ model.coef_.T + model.intercept_
        z = z - z.max(axis=1, keepdims=True)
        loss = (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]).sum()
        fits.append(
            {
                "objective": float(c * loss + 0.5 * (model.coef_**2).sum()),
                "accuracy": float(model.score(test_x, test_y)),
                "iterations": int(model.n_iter_[0]),
            }
        )
    return fits


found, search_time = timed(neighbours)
fits, fit_time = timed(logistic)
print(
    json.dumps(
        {
            "version": sklearn.__version__,
            "neighbours": {**search_time, "rows": found.tolist()},
            "logistic": {**fit_time, "fits": fits},
        }
    )
)
