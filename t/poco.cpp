// Tests of Poco.hpp: a session on a Poco socket.
#include <Poco/Net/ServerSocket.h>
#include <Poco/Net/StreamSocket.h>
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <Net/SMTP/Poco.hpp>
#include <Net/SMTP/Server.hpp>
#include <string>

using namespace Net::SMTP;

TEST_CASE("a session runs on a copy of a Poco socket's descriptor, and the socket stays whose it was") {
    Poco::Net::ServerSocket listening(Poco::Net::SocketAddress("127.0.0.1", 0));
    Poco::Net::StreamSocket near(listening.address());
    auto far = listening.acceptConnection();
    near.sendBytes("HELO me\r\nQUIT\r\n", 15);
    {
        auto c = connection(far);
        CHECK(c.fd() != far.impl()->sockfd());
        CHECK(c.peer().port == near.address().port());
        Server::Client client(std::move(c), {.hostname = "poco.test"});
        CHECK(!client.process());
    }
    near.setReceiveTimeout(Poco::Timespan(5, 0));
    std::string heard;
    char octets[512];
    for (int n; (n = near.receiveBytes(octets, sizeof octets)) > 0;) {
        heard.append(octets, static_cast<std::size_t>(n));
        if (heard.find("221") != heard.npos) break;
    }
    CHECK(heard.starts_with("220 poco.test"));
    CHECK(heard.find("\r\n221 2.0.0 ") != heard.npos);
    // The session closed its own copy only.
    CHECK(fcntl(far.impl()->sockfd(), F_GETFD) >= 0);
}

TEST_CASE("a Poco socket without a connection is refused") {
    Poco::Net::StreamSocket socket(Poco::Net::SocketAddress::IPv4);
    CHECK_THROWS_AS(connection(socket), std::system_error);
}
