// C interface to a Stan program's log-density and gradient (propto = false, no change of variables).
#include STAN_MODEL
#include <stan/io/json/json_data.hpp>
#include <stan/model/log_prob_grad.hpp>
#include <cstdio>
#include <sstream>
#include <vector>

extern "C" void* course_with(const char* data) {
  try {
    std::istringstream in(data);
    stan::json::json_data context(in);
    return new course_model_namespace::course_model(context, 1, nullptr);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return nullptr;
  }
}

// Returns 0 and writes the log-density and its gradient, or tells the error and returns 1.
extern "C" int course_gradient(const void* course, const double* w, int n, double* value, double* gradient) {
  auto model = static_cast<const course_model_namespace::course_model*>(course);
  std::vector<double> at(w, w + n), slope;
  std::vector<int> none;
  try {
    *value = stan::model::log_prob_grad<false, false>(*model, at, none, slope, nullptr);
  } catch (const std::exception& e) {
    stan::math::recover_memory();
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  std::copy(slope.begin(), slope.end(), gradient);
  return 0;
}
