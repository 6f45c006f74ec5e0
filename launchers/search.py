"""Search, retrain the best genotypes, score them, keep everything: the same as `irnas-ray search`.

python launchers/search.py search_spaces=irnas_denoise data=images data.source=BSD500 study=bsd500 cluster=gpu
ray job submit --address http://127.0.0.1:8265 --working-dir . -- python launchers/search.py results=$HOME/results
"""

import sys

from irnas_ray.__main__ import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
