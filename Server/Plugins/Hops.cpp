#include "Hops.hpp"

#include <stdexcept>

#include "../Client.hpp"

namespace Net::SMTP {

Hops::Hops(std::size_t max_hops) {
    if (max_hops == 0) throw std::invalid_argument("Hops: max_hops is 0");
    on<Event::Arrived>([max_hops](Event::Arrived& e) {
        if (e.reply.positive() && hops(e.client.MSG) >= max_hops) e.reply = too_many_hops;
    });
}

}  // namespace Net::SMTP
