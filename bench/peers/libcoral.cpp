// libcoral's pose decoder with a C name: see libcoral.py. -I names the clone.

#include "coral/pose_estimation/posenet_decoder.cc"

extern "C" int decode_all_poses(const float* logits, const float* short_offsets, const float* mid_offsets, int height,
                                int width, int max_detections, float score_threshold, int refinement_steps,
                                float nms_radius, int stride, void* keypoints, void* keypoint_scores, float* scores) {
    using namespace coral::posenet_decoder_op;
    return DecodeAllPoses(logits, short_offsets, mid_offsets, height, width, max_detections, score_threshold,
                          refinement_steps, nms_radius, stride, static_cast<PoseKeypoints*>(keypoints),
                          static_cast<PoseKeypointScores*>(keypoint_scores), scores);
}
