# SPDX-License-Identifier: Apache-2.0
"""Networks of others, quantized and judged by what they are for.

networks    which there are, and what they are calibrated and judged on
photographs crops of the pictures in the data          detectors  boxes of their answers
scores      how near two answers are                   super_resolution, silero   two networks as layers
"""
